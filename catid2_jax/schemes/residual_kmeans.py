"""Document IDs by residual k-means on the embeddings, without a network."""

import dataclasses

import jax
import numpy as np

from catid2_jax.constraints import NonNegativeFloat, PositiveInt, check_fields
from catid2_jax.data.corpus import Corpus
from catid2_jax.docids.collisions import check_room
from catid2_jax.docids.table import DocidTable, check_shape
from catid2_jax.errors import InputError
from catid2_jax.schemes.config import DocidsConfig, refuse_previous
from catid2_jax.schemes.quantized import (
    group_means,
    query_means,
    residual_kmeans,
    unique_docids,
)
from catid2_jax.schemes.rqvae.standardization import fit_standardization
from catid2_jax.schemes.scheme import Run


@dataclasses.dataclass(frozen=True)
class ResidualKMeans:
    """Residual k-means (RQ-KMeans), then one ID per document by reassignment.

    Attributes:
        levels: L, rounds of clustering, each of which gives an ID a code.
        codebook_size: K, clusters per level.
        balanced: whether each code of a level gets about the same number of documents, by a
            transport plan (as in OneRec, Deng et al., 2025); without it, a few codes may get most.
        category_weight: weight w of the category: what is clustered is d + w m, where m is the mean
            vector of the documents of the same category path; 0 for d alone.
        query_weight: weight w of the training queries: what is clustered is d + w q, where q is the
            mean vector of the document's training queries; 0 for d alone.
        standardize: whether embeddings get unit variance per dimension first.
        docids: how collisions are resolved.
    """

    levels: PositiveInt = 4
    codebook_size: PositiveInt = 256
    balanced: bool = False
    category_weight: NonNegativeFloat = 0.0
    query_weight: NonNegativeFloat = 0.0
    standardize: bool = False
    docids: DocidsConfig = DocidsConfig()

    def __post_init__(self) -> None:
        check_fields(self)
        check_shape(self.levels, self.codebook_size)

    def fit(self, corpus: Corpus, run: Run) -> DocidTable:
        """Clusters the embeddings level by level and assigns unique IDs.

        Raises:
            InputError: more documents than IDs, an earlier state to continue, or a weight of the
                queries without vectors of them.
        """
        refuse_previous(self.docids)
        check_room(len(corpus), self.levels, self.codebook_size)
        vectors = np.asarray(corpus.embeddings)
        if self.query_weight:
            if corpus.queries is None or corpus.queries.vectors is None:
                raise InputError(
                    "query_weight", self.query_weight, "0, for there are no query vectors"
                )
            vectors = vectors + np.float32(self.query_weight) * query_means(corpus)[0]
        if self.standardize:
            vectors = fit_standardization(vectors)(vectors)
        vectors = with_categories(vectors, corpus.catalog.paths, self.category_weight)
        key = jax.random.key(run.seed)
        found = residual_kmeans(vectors, self.levels, self.codebook_size, key, self.balanced)
        return unique_docids(corpus, found, self.docids.collisions, run.figures)


def with_categories(vectors: np.ndarray, paths: list[tuple[str, ...]], weight: float) -> np.ndarray:
    """Adds to each vector `weight` times the mean vector of the documents of its category path.

    Args:
        vectors: d, float32 [N, D].
        paths: N category paths; a document without one keeps d.
        weight: w.
    """
    rows = np.array([row for row, path in enumerate(paths) if path], int)
    if not (weight and rows.size):
        return vectors
    numbers: dict[tuple[str, ...], int] = {}
    groups = np.array([numbers.setdefault(paths[row], len(numbers)) for row in rows])
    mixed = vectors.copy()
    mixed[rows] += np.float32(weight) * group_means(vectors[rows], groups)
    return mixed
