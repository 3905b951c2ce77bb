"""Document IDs that begin with the category path, after Hi-Gen (Wu et al., 2024)."""

import collections
import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from catid2_jax.constraints import PositiveInt, check_fields
from catid2_jax.data.corpus import Corpus
from catid2_jax.docids.collisions import check_room
from catid2_jax.docids.table import DocidTable, check_shape
from catid2_jax.errors import InputError
from catid2_jax.schemes.config import DocidsConfig, refuse_previous
from catid2_jax.schemes.quantized import Quantized, group_means, residual_kmeans, unique_docids
from catid2_jax.schemes.scheme import Run


@dataclasses.dataclass(frozen=True)
class CategoryPrefix:
    """The category path as the first H codes, then residual k-means within the category.

    Documents have the same first H codes if, and only if, the first H names of their category paths
    are the same. The other codes are residual k-means of what the category's mean vector leaves of
    the embeddings, with codebooks that all categories share.

    Attributes:
        levels: L, tokens of a document ID, those of its category path among them.
        codebook_size: K, codes per level; no category may have more than K children, a path that
            ends there counting as one of them.
        category_levels: H, names of the category path that become codes; H < L. A category may have
            K^(L - H) documents.
        docids: how collisions are resolved.
    """

    levels: PositiveInt = 4
    codebook_size: PositiveInt = 256
    category_levels: PositiveInt = 2
    docids: DocidsConfig = DocidsConfig()

    def __post_init__(self) -> None:
        check_fields(self)
        check_shape(self.levels, self.codebook_size)
        if self.category_levels >= self.levels:
            raise InputError(
                "category_levels",
                f"{self.category_levels} with {self.levels} levels",
                "less than levels, so that the others tell documents of one category apart",
            )

    def fit(self, corpus: Corpus, run: Run) -> DocidTable:
        """Numbers the categories, clusters the embeddings and assigns unique IDs.

        Raises:
            InputError: a category with too many children or documents, more documents than IDs, or
                an earlier state to continue.
        """
        refuse_previous(self.docids)
        check_room(len(corpus), self.levels, self.codebook_size)
        prefixes = self._prefixes(corpus.catalog.paths)
        depth, size = self.category_levels, self.codebook_size
        _, leaves = np.unique(prefixes, axis=0, return_inverse=True)
        vectors = np.asarray(corpus.embeddings)
        within = residual_kmeans(
            vectors - group_means(vectors, leaves.ravel()),
            self.levels - depth,
            size,
            jax.random.key(run.seed),
        )
        # Codes of categories stand for no vectors. No category is overfull, so that they stay.
        categories = np.zeros((depth, *within.codebooks.shape[1:]), np.float32)
        found = Quantized(
            within.latents,
            np.concatenate([categories, within.codebooks]),
            np.concatenate([prefixes, within.nearest], axis=1),
        )
        return unique_docids(corpus, found, self.docids.collisions, run.figures)

    def _prefixes(self, paths: Sequence[tuple[str, ...]]) -> np.ndarray:
        """The first H codes, which are below K and leave room for all documents of a category."""
        depth, size = self.category_levels, self.codebook_size
        prefixes = category_codes(paths, depth)
        row, level = divmod(int(prefixes.argmax()), depth)
        if prefixes[row, level] >= size:
            children = prefixes[row, level] + 1
            raise InputError(
                "codebook_size",
                f"{size} with {children} categories{_within(paths[row][:level])}",
                "at least as many, or fewer category_levels",
            )
        _, first, counts = np.unique(prefixes, axis=0, return_index=True, return_counts=True)
        if counts.max() > size ** (self.levels - depth):
            path = paths[first[counts.argmax()]][:depth]
            raise InputError(
                "levels",
                f"{self.levels} with {counts.max()} documents{_within(path)}",
                f"at most K^(L-H) = {size}^{self.levels - depth} = {size ** (self.levels - depth)} "
                "of one category: raise levels or codebook_size",
            )
        return prefixes


def _within(path: tuple[str, ...]) -> str:
    return f" in {' > '.join(path)!r}" if path else ""


def category_codes(paths: Sequence[tuple[str, ...]], depth: int) -> np.ndarray:
    """Numbers every node of the category tree among its siblings, the most frequent first.

    Where paths end at a node that has children, or above `depth`, there is a sibling without a name
    for them.

    Args:
        paths: N category paths, root first; names beyond `depth` are ignored.
        depth: H.

    Returns:
        int32 [N, H], the numbers from the root on.
    """
    nodes = [(*path[:depth], *[None] * (depth - len(path))) for path in paths]
    counts = collections.Counter(node[:end] for node in nodes for end in range(1, depth + 1))
    siblings: dict[tuple[str | None, ...], list[tuple[str | None, ...]]] = {}
    for node in counts:
        siblings.setdefault(node[:-1], []).append(node)
    numbers = {
        node: number
        for group in siblings.values()
        for number, node in enumerate(sorted(group, key=lambda n: (-counts[n], n[-1] or "")))
    }
    codes = [[numbers[node[:end]] for end in range(1, depth + 1)] for node in nodes]
    return np.array(codes, np.int32).reshape(len(paths), depth)
