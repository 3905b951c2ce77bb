"""Document IDs by hierarchical k-means, as in DSI (Tay et al., 2022), NCI and Hi-Gen."""

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import threadpoolctl
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from catid2_jax.constraints import NonNegativeInt, PositiveInt, at_least, at_most, check_fields
from catid2_jax.data.corpus import Corpus
from catid2_jax.docids.table import DocidTable
from catid2_jax.errors import InputError
from catid2_jax.schemes.category_prefix import category_codes
from catid2_jax.schemes.config import DocidsConfig, refuse_previous
from catid2_jax.schemes.scheme import Run

_MOST_LEVELS = 26


@dataclasses.dataclass(frozen=True)
class TreeKMeans:
    """Clusters the documents, then those of each cluster, and numbers those of a small one.

    An ID is the path of clusters from the root and the document's number in the last of them, so
    that IDs differ in length. With `category_levels` it begins with the category path, and the
    clusters are within the category.

    Attributes:
        branches: clusters into which a set of documents is divided.
        leaf_size: documents that are numbered, not clustered: those of a cluster of at most so
            many.
        category_levels: H, names of the category path that become the first codes; a path that is
            shorter has a number of its own in their place.
        levels: L, the most codes that an ID may have, those of its category among them. A cluster
            with more documents than the codes below it can tell apart is divided evenly.
        docids: an earlier state to continue, which is refused.
    """

    branches: Annotated[int, at_least(2)] = 10
    leaf_size: PositiveInt = 100
    category_levels: NonNegativeInt = 0
    levels: Annotated[int, at_least(1), at_most(_MOST_LEVELS)] = 8
    docids: DocidsConfig = DocidsConfig()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.category_levels >= self.levels:
            raise InputError(
                "category_levels",
                f"{self.category_levels} with {self.levels} levels",
                "less than levels, so that the others tell documents of one category apart",
            )

    def fit(self, corpus: Corpus, run: Run) -> DocidTable:
        """Clusters the embeddings from the root down.

        Raises:
            InputError: categories are asked for and no product has one, more documents than IDs,
                or an earlier state to continue.
        """
        refuse_previous(self.docids)
        vectors = np.asarray(corpus.embeddings)
        codes = np.full((len(corpus), self.levels), -1, np.int64)
        codes[:, : self.category_levels] = self._categories(corpus.catalog.paths)
        generator = np.random.default_rng(run.seed)
        with threadpoolctl.threadpool_limits(limits=1):  # threads would add in any order
            for rows in _groups(codes[:, : self.category_levels]):
                self._check_room(rows, corpus)
                self._divide(vectors, rows, codes, self.category_levels, generator)
        codes = codes[:, : 1 + np.flatnonzero((codes >= 0).any(axis=0))[-1]]
        size = max(self.branches, self.leaf_size, 1 + int(codes.max()))
        return DocidTable(corpus.catalog.ids, codes, codebook_size=size)

    def _categories(self, paths: list[tuple[str, ...]]) -> np.ndarray:
        if self.category_levels and not any(paths):
            raise InputError(
                "category_levels",
                f"{self.category_levels}, and no product has a category",
                "categories in the catalogue, or 0",
            )
        return category_codes(paths, self.category_levels)

    def _capacity(self, depth: int) -> int:
        """The most documents that share their first `depth` codes."""
        return int(self.leaf_size) * int(self.branches) ** (self.levels - depth - 1)

    def _check_room(self, rows: np.ndarray, corpus: Corpus) -> None:
        room = self._capacity(self.category_levels)
        if len(rows) > room:
            path = " > ".join(corpus.catalog.paths[rows[0]][: self.category_levels])
            raise InputError(
                "levels",
                f"{self.levels} with {len(rows)} documents{f' in {path!r}' if path else ''}",
                f"at most {room} of them: raise levels, branches or leaf_size",
            )

    def _divide(
        self,
        vectors: np.ndarray,
        rows: np.ndarray,
        codes: np.ndarray,
        depth: int,
        generator: np.random.Generator,
    ) -> None:
        """Writes the codes from `depth` on of the documents of a cluster, in place."""
        if len(rows) <= self.leaf_size:
            codes[rows, depth] = np.arange(len(rows))
            return
        labels = _cluster(vectors[rows], self.branches, int(generator.integers(2**31)))
        sizes = np.bincount(labels)
        if sizes.max() > min(self._capacity(depth + 1), len(rows) - 1):
            order = np.argsort(labels, kind="stable")
            labels[order] = np.arange(len(rows)) * self.branches // len(rows)
        codes[rows, depth] = labels
        for group in _groups(labels[:, None]):
            self._divide(vectors, rows[group], codes, depth + 1, generator)


def _groups(codes: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the rows of each distinct row of codes [N, H], in the order of the codes."""
    _, numbers = np.unique(codes, axis=0, return_inverse=True)
    numbers = numbers.ravel() if codes.shape[1] else np.zeros(len(codes), int)
    order = np.argsort(numbers, kind="stable")
    yield from np.split(order, np.cumsum(np.bincount(numbers))[:-1])


def _cluster(vectors: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Computes the cluster of each vector by k-means, int64 [N]."""
    clusters = min(clusters, len(vectors))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct vectors than clusters
        found = KMeans(clusters, n_init=1, max_iter=50, random_state=seed).fit(vectors)
    return found.labels_.astype(np.int64)
