"""Naive document IDs: the digits of an arbitrary number, as in DSI (Tay et al., 2022)."""

import dataclasses
from typing import Annotated

import numpy as np

from catid2_jax.constraints import at_least, check_fields
from catid2_jax.data.corpus import Corpus
from catid2_jax.docids.table import DocidTable, check_shape
from catid2_jax.schemes.config import DocidsConfig, refuse_previous
from catid2_jax.schemes.scheme import Run


@dataclasses.dataclass(frozen=True)
class NaiveDocids:
    """Numbers the N documents from 0 to N - 1 in random order; an ID is the number's digits.

    Attributes:
        base: K, the base of the numbers: 10 for decimal digits.
        padded: whether shorter numbers get zeros in front, so that all IDs have the same length;
            without these, 10 numbers have one digit, 90 have two, and so on.
        docids: an earlier state to continue, which is refused.
    """

    base: Annotated[int, at_least(2)] = 10
    padded: bool = False
    docids: DocidsConfig = DocidsConfig()

    def __post_init__(self) -> None:
        check_fields(self)
        check_shape(1, self.base)

    def fit(self, corpus: Corpus, run: Run) -> DocidTable:
        """Draws the numbers and writes their digits.

        Raises:
            InputError: more documents than numbers of the most digits that an ID may have, or an
                earlier state to continue.
        """
        refuse_previous(self.docids)
        numbers = np.random.default_rng(run.seed).permutation(len(corpus))
        codes = digits(numbers, self.base, self.padded)
        check_shape(codes.shape[1], self.base)
        return DocidTable(corpus.catalog.ids, codes, codebook_size=self.base)


def digits(numbers: np.ndarray, base: int, padded: bool) -> np.ndarray:
    """Writes numbers in a base, the first digit first.

    Args:
        numbers: int [N], not negative.
        base: K.
        padded: whether shorter numbers get zeros in front; else -1 stands after their end.

    Returns:
        int64 [N, L], L the digits of the largest number.
    """
    powers = [1]
    while powers[-1] * base <= numbers.max():
        powers.append(powers[-1] * base)
    scale = np.array(powers[::-1], np.int64)
    codes = numbers[:, None] // scale % base
    if padded:
        return codes
    lengths = 1 + np.sum(numbers[:, None] >= scale[:-1], axis=1)
    places = len(powers) - lengths[:, None] + np.arange(len(powers))
    return np.where(
        places < len(powers),
        np.take_along_axis(codes, places.clip(max=len(powers) - 1), axis=1),
        -1,
    )
