"""Vectors of co-relevance, against a dense singular value decomposition."""

import numpy as np
import pytest

from catid2_jax.data.corpus import Catalog, Corpus, QuerySet
from catid2_jax.losses import LossWeights
from catid2_jax.schemes.co_relevance import co_relevance
from catid2_jax.schemes.rqvae.training import acting
from catid2_jax.types import Product, Query

JUDGED = {"q0": "abc", "q1": "bcd", "q2": "ef", "q3": "f", "q4": "ae"}


def corpus_of(judged):
    catalog = Catalog.from_products(Product(name, "t", "", ()) for name in "gabcdef")
    qrels = {query: dict.fromkeys(products, 3) for query, products in judged.items()}
    queries = QuerySet([Query(query, query) for query in judged], qrels)
    return Corpus(catalog, np.ones((7, 2), np.float32), queries)


@pytest.mark.parametrize("width", [2, 5, 9])
def test_inner_products_are_those_of_the_normalised_relevance(width):
    vectors, related = co_relevance(corpus_of(JUDGED), width, 0)
    assert vectors.shape == (7, width)
    relevance = np.array([[name in products for products in JUDGED.values()] for name in "gabcdef"])
    np.testing.assert_array_equal(related, relevance.any(axis=1))
    degrees = np.maximum(relevance.sum(1, keepdims=True), 1) * relevance.sum(0, keepdims=True)
    u, s, _ = np.linalg.svd(relevance / np.sqrt(degrees), full_matrices=False)
    expected = (u[:, :width] * s[:width] ** 2) @ u[:, :width].T
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-5)
    np.testing.assert_array_equal(vectors[0], 0)


def test_products_of_the_same_queries_are_alike():
    vectors, _ = co_relevance(corpus_of(JUDGED), 5, 0)
    unit = vectors[1:] / np.linalg.norm(vectors[1:], axis=1, keepdims=True)
    cosines = dict(zip("abcdef", unit @ unit[1], strict=True))  # with b, of q0 and q1
    assert cosines["c"] == pytest.approx(1, abs=1e-5)
    assert cosines["c"] > cosines["a"] > abs(cosines["f"]) + 0.2


@pytest.mark.parametrize("judged", [{}, {"q0": "ab"}])
def test_one_query_or_none_tells_no_products_apart(judged, capsys):
    corpus = corpus_of(judged)
    vectors, related = co_relevance(corpus, 3, 0)
    assert np.isfinite(vectors).all()
    assert related.sum() == sum(map(len, judged.values()))
    weights = LossWeights(collaborative=0.1, query_alignment=0.0)
    categories = np.zeros((7, 0), np.int32)
    assert acting(weights, categories, corpus.queries).collaborative == 0
    assert f"{len(judged)} training queries tell no two apart" in capsys.readouterr().out
    assert acting(weights, categories, None).collaborative == 0
    assert acting(weights, categories, corpus_of(JUDGED).queries).collaborative == 0.1
