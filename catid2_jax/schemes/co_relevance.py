"""Vectors of the queries that products are relevant to, in the place of who bought them."""

import numpy as np
import scipy.sparse
from sklearn.decomposition import TruncatedSVD

from catid2_jax.data.corpus import Corpus


def co_relevance(corpus: Corpus, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Computes vectors of which those of products of the same training queries are alike.

    They are the leading left singular vectors, times the singular values, of the matrix R of
    products and queries whose entry is 1 / sqrt(queries of the product x products of the query)
    where the product is relevant: inner products are then nearly those of R R^T. LETTER (Wang et
    al., 2024) has vectors of a recommender that learns from users and purchases instead.

    Args:
        corpus: N products and the training queries.
        width: Z; what R has no directions for is 0.
        seed: seed of the randomised SVD (Halko et al., 2011).

    Returns:
        (vectors, float32 [N, Z], 0 where a product is relevant to no query, and all of them where
        there are fewer than two; whether a product is relevant to any query, bool [N]).
    """
    relevance = relevance_matrix(corpus)
    queries_of, products_of = (np.asarray(relevance.sum(axis=axis)).ravel() for axis in (1, 0))
    scale = [scipy.sparse.diags(np.maximum(n, 1) ** -0.5) for n in (queries_of, products_of)]
    normalized = (scale[0] @ relevance @ scale[1]).tocsr()
    rank = min(width, *normalized.shape)
    vectors = np.zeros((len(corpus), width), np.float32)
    if len(products_of) > 1:  # a single query tells no two of its products apart
        vectors[:, :rank] = TruncatedSVD(rank, random_state=seed).fit_transform(normalized)
    return vectors, queries_of > 0


def relevance_matrix(corpus: Corpus) -> scipy.sparse.csr_matrix:
    """Makes the matrix [N, Q] that is 1 where a product is relevant to a training query."""
    rows, qrels = corpus.catalog.rows, corpus.queries.qrels if corpus.queries else {}
    pairs = [
        (rows[product], query) for query, judged in enumerate(qrels.values()) for product in judged
    ]
    products, queries = np.array(pairs, np.int64).reshape(-1, 2).T
    shape = len(corpus), len(qrels)
    return scipy.sparse.csr_matrix((np.ones(len(pairs), np.float32), (products, queries)), shape)
