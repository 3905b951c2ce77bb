"""Retrievers by name, and the check of what one finds."""

import numpy as np
import pytest

from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.errors import InputError
from catid2_jax.retrievers.bm25 import BM25Retriever
from catid2_jax.retrievers.clusters import ClusterRetriever
from catid2_jax.retrievers.dense import DenseRetriever
from catid2_jax.retrievers.dpr import DPRRetriever
from catid2_jax.retrievers.fused import FusedRetriever
from catid2_jax.retrievers.generative import GenerativeRetriever
from catid2_jax.retrievers.nearest_query import NearestQueryRetriever
from catid2_jax.retrievers.retriever import (
    RETRIEVERS,
    TRAINED,
    Ranking,
    Retriever,
    check_ranking,
    make_retriever,
    resolve_retriever,
    retriever_options,
)
from catid2_jax.types import Product

INF = np.inf


def test_retrievers_by_name():
    assert {name: resolve_retriever(name) for name in RETRIEVERS} == {
        "bm25": BM25Retriever,
        "generative": GenerativeRetriever,
        "clusters": ClusterRetriever,
        "dense": DenseRetriever,
        "nearest_query": NearestQueryRetriever,
        "dpr": DPRRetriever,
        "fused": FusedRetriever,
    }
    assert set(TRAINED) < set(RETRIEVERS)
    assert {name: retriever_options(name) for name in RETRIEVERS} == {
        "bm25": {"tokens": "words_and_bigrams", "language": "english"},
        "generative": {},
        "clusters": {"level": 2},
        "dense": {},
        "nearest_query": {"language": "english", "substitutes": True},
        "dpr": {"product_tokens": 64, "temperature": 0.05, "mined": 10},
        "fused": {"systems": ("cat_id2", "bm25", "nearest_query"), "constant": 60},
    }
    assert not BM25Retriever.needs_embeddings
    assert ClusterRetriever.needs_embeddings


class Own(Retriever):
    def __init__(self, corpus, weight=2.0):
        self.corpus, self.weight = corpus, weight

    def search(self, queries, k, *, vectors=None, allowed=None):
        return Ranking(np.zeros((len(queries), 1), int), np.ones((len(queries), 1)))


def test_make_retriever():
    corpus = Corpus(Catalog.from_products([Product("p", "red shirt", "", ("a",))]))
    assert make_retriever("bm25", corpus, {}).search(["shirt"], 3).documents.tolist() == [[0]]
    own = make_retriever(f"{__name__}:Own", corpus, {"weight": 3.0})
    assert (own.corpus, own.weight, own.needs_embeddings) == (corpus, 3.0, True)
    assert retriever_options(f"{__name__}:Own") == {"weight": 2.0}


@pytest.mark.parametrize(
    ("name", "options", "found"),
    [
        ("bm26", {}, "'bm26'"),
        (f"{__name__}:Own", {"wait": 1}, "option 'wait' for Own"),
        (f"{__name__}:INF", {}, f"'{__name__}:INF' without search"),
        ("bm25", {"k1": 1.0}, "option 'k1' for BM25Retriever"),
        ("clusters", {"level": 1}, "no option 'model' for ClusterRetriever"),
    ],
)
def test_retrievers_that_there_are_not(name, options, found):
    corpus = Corpus(Catalog.from_products([Product("p", "t", "", ("a",))]))
    with pytest.raises(InputError) as error:
        make_retriever(name, corpus, options)
    assert (error.value.where, error.value.found) == ("retriever", found)


@pytest.mark.parametrize(
    ("documents", "scores", "proven"),
    [
        ([[4, 0, 2], [1, 3, 0]], [[3.0, 2.0, 1.0], [2.0, 2.0, 2.0]], None),
        ([[4, 0, -1], [-1, -1, -1]], [[3.0, 2.0, -INF], [-INF] * 3], [True, False]),
        ([[4], [4]], [[3.0], [2.0]], np.array([True, True])),
        (np.zeros((2, 0), int), np.zeros((2, 0)), None),
        (np.array([[1, 0], [0, 1]], np.uint8), np.array([[1, 0], [1, 0]]), None),
        ([[4, -1, -1], [1, -1, -1]], [[3.0, 0.0, 9.0], [2.0, np.nan, np.nan]], None),
    ],
)
def test_a_ranking_comes_back_as_arrays(documents, scores, proven):
    found = check_ranking(Ranking(documents, scores, proven), 2, 3, 5, "own")
    np.testing.assert_array_equal(found.documents, documents)
    np.testing.assert_array_equal(found.scores, scores)
    assert type(found.documents) is type(found.scores) is np.ndarray
    if proven is None:
        assert found.proven is None
    else:
        np.testing.assert_array_equal(found.proven, proven)


GOOD = [[4, 0, 2], [1, 3, 0]]
FALLING = [[3.0, 2.0, 1.0], [2.0, 2.0, 2.0]]


@pytest.mark.parametrize(
    ("ranking", "found"),
    [
        ((GOOD, FALLING), "tuple"),
        (Ranking(GOOD[:1], FALLING[:1]), "documents int64 (1, 3) and scores float64 (1, 3)"),
        (Ranking(GOOD, FALLING[:1]), "documents int64 (2, 3) and scores float64 (1, 3)"),
        (Ranking(GOOD[0], FALLING[0]), "documents int64 (3,) and scores float64 (3,)"),
        (
            Ranking([[0, 1, 2, 3]] * 2, [[0.0] * 4] * 2),
            "documents int64 (2, 4) and scores float64 (2, 4)",
        ),
        (Ranking(FALLING, FALLING), "documents float64 (2, 3) and scores float64 (2, 3)"),
        (Ranking(GOOD, [["a"] * 3] * 2), "documents int64 (2, 3) and scores <U1 (2, 3)"),
        (Ranking(GOOD, FALLING, [True]), "proven (1,)"),
        (Ranking([[5, 0, 2], GOOD[1]], FALLING), "rows of 0 to 5"),
        (Ranking([[-2, 0, 2], GOOD[1]], FALLING), "rows of -2 to 3"),
        (Ranking([GOOD[0], [1, 3, 1]], FALLING), "a document twice for query 1"),
        (Ranking(GOOD, [FALLING[0], [2.0, 1.0, 1.5]]), "scores that rise for query 1"),
        (Ranking([[4, -1, 2], GOOD[1]], FALLING), "scores that rise for query 0"),
        (Ranking(GOOD, [FALLING[0], [2.0, np.nan, 1.5]]), "a score that is not finite for query 1"),
        (Ranking(GOOD, [[INF, 1.0, 1.0], FALLING[1]]), "a score that is not finite for query 0"),
        (Ranking(GOOD, [FALLING[0], [2, 1, -INF]]), "a score that is not finite for query 1"),
    ],
)
def test_what_is_no_ranking(ranking, found):
    with pytest.raises(InputError) as error:
        check_ranking(ranking, 2, 3, 5, "own")
    assert (error.value.where, error.value.found) == ("retriever own", found)
