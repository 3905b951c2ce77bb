"""Exact search beside the cosines written out."""

import numpy as np
import pytest

from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.errors import InputError
from catid2_jax.retrievers import dense
from catid2_jax.retrievers.dense import DenseRetriever
from catid2_jax.types import Product

N, D, Q = 30, 5, 7
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(N, D)).astype(np.float32) * RNG.uniform(0.1, 9, (N, 1))
EMBEDDINGS[11] = 0.0
VECTORS = RNG.normal(size=(Q, D)).astype(np.float32)
QUERIES = [f"q{n}" for n in range(Q)]


def corpus(**fields):
    products = [Product(f"p{n}", "t", "", ("c",)) for n in range(N)]
    return Corpus(Catalog.from_products(products), EMBEDDINGS.astype(np.float32), **fields)


def cosines(query):
    """Of a query and every product, in float64; 0 for the product without a direction."""
    norms = np.linalg.norm(EMBEDDINGS, axis=1) * np.linalg.norm(VECTORS[query])
    return np.where(norms > 0, EMBEDDINGS @ VECTORS[query] / np.maximum(norms, 1e-9), 0.0)


def check(found, allowed, k):
    assert found.documents.shape == found.scores.shape == (Q, min(k, N))
    for query in range(Q):
        expected = np.where(allowed[query], cosines(query), -np.inf)
        order = np.argsort(-expected, kind="stable")[:k]
        there = np.isfinite(expected[order])
        assert found.documents[query].tolist() == np.where(there, order, -1).tolist()
        np.testing.assert_allclose(found.scores[query], expected[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scores_at_once", [2**26, 2 * N, 1])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_the_k_of_the_highest_cosine(monkeypatch, k, scores_at_once):
    """However many queries are on the device at once: all, two or one."""
    monkeypatch.setattr(dense, "_SCORES_AT_ONCE", scores_at_once)
    found = DenseRetriever(corpus()).search(QUERIES, k, vectors=VECTORS)
    check(found, np.ones((Q, N), bool), k)
    assert found.proven.tolist() == [True] * Q


def test_only_what_is_allowed_is_found():
    retriever, allowed = DenseRetriever(corpus()), RNG.random((Q, N)) < 0.3
    allowed[2] = False
    check(retriever.search(QUERIES, 12, vectors=VECTORS, allowed=allowed), allowed, 12)
    found = retriever.search(QUERIES, 12, vectors=VECTORS, allowed=allowed[0])
    check(found, np.broadcast_to(allowed[0], (Q, N)), 12)


def test_equal_scores_go_by_the_catalogue_s_order():
    same = Corpus(corpus().catalog, np.ones((N, D), np.float32))
    found = DenseRetriever(same).search(["q"], 5, vectors=np.ones((1, D), np.float32))
    assert found.documents.tolist() == [[0, 1, 2, 3, 4]]


def test_queries_without_vectors_are_encoded():
    def encode(texts):
        return VECTORS[[QUERIES.index(text) for text in texts]]

    found = DenseRetriever(corpus(encode_queries=encode)).search(QUERIES[2:4], 3)
    expected = DenseRetriever(corpus()).search(QUERIES, 3, vectors=VECTORS)
    assert found.documents.tolist() == expected.documents[2:4].tolist()


def test_vectors_that_do_not_fit():
    retriever = DenseRetriever(corpus())
    with pytest.raises(InputError, match="vectors: found none, expected a vector per query"):
        retriever.search(QUERIES, 3)
    with pytest.raises(InputError, match="vectors: found width 4, expected the embeddings' 5"):
        retriever.search(QUERIES, 3, vectors=VECTORS[:, :4])
