"""Random document IDs: the floor that IDs with a meaning are compared with."""

import dataclasses

import numpy as np

from catid2_jax.constraints import PositiveInt, check_fields
from catid2_jax.data.corpus import Corpus
from catid2_jax.docids.collisions import check_room
from catid2_jax.docids.table import DocidTable, check_shape
from catid2_jax.schemes.scheme import Run


@dataclasses.dataclass(frozen=True)
class RandomDocids:
    """Gives every document a random ID, all different and all equally likely.

    Attributes:
        levels: L, codes drawn for each document.
        codebook_size: K, codes that each level draws from.
    """

    levels: PositiveInt = 4
    codebook_size: PositiveInt = 256

    def __post_init__(self) -> None:
        check_fields(self)
        check_shape(self.levels, self.codebook_size)

    def fit(self, corpus: Corpus, run: Run) -> DocidTable:
        """Draws the IDs.

        Raises:
            InputError: more documents than IDs.
        """
        check_room(len(corpus), self.levels, self.codebook_size)
        generator = np.random.default_rng(run.seed)
        codes = random_codes(len(corpus), self.levels, self.codebook_size, generator)
        return DocidTable(corpus.catalog.ids, codes, codebook_size=self.codebook_size)


def random_codes(
    documents: int, levels: int, codebook_size: int, generator: np.random.Generator
) -> np.ndarray:
    """Draws N <= K^L distinct rows of codes, int64 [N, L]."""
    if 2 * documents > codebook_size**levels:
        numbers = generator.permutation(codebook_size**levels)[:documents]
        return numbers[:, None] // codebook_size ** np.arange(levels)[::-1] % codebook_size
    codes = generator.integers(codebook_size, size=(documents, levels))
    while True:  # a row that equals an earlier one is drawn again
        _, first = np.unique(codes, axis=0, return_index=True)
        again = np.delete(np.arange(documents), first)
        if not again.size:
            return codes
        codes[again] = generator.integers(codebook_size, size=(len(again), levels))
