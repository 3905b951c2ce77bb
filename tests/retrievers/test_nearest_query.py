"""The products of the nearest training queries, by BM25 as rank_bm25 and the eye have it."""

import numpy as np
import pytest

from catid2_jax.data.corpus import Catalog, Corpus, QuerySet
from catid2_jax.errors import InputError
from catid2_jax.retrievers import nearest_query
from catid2_jax.retrievers.nearest_query import NearestQueryRetriever
from catid2_jax.types import Product, Query
from tests.retrievers.test_bm25 import lucene_bm25

TRAINING = {
    "a": ("red cotton shirt", {"p4": 2, "p1": 3, "p3": 2}),
    "b": ("cotton shirt", {"p0": 3, "p1": 3}),
    "c": ("steel kettle", {"p2": 3}),
    "d": ("unjudged cotton shirt", {}),
}


def corpus(training=TRAINING):
    products = [Product(f"p{n}", "cotton", "", ("c",)) for n in range(6)]
    queries = [Query(name, text) for name, (text, _) in training.items()]
    qrels = {name: judged for name, (_, judged) in training.items() if judged}
    return Corpus(Catalog.from_products(products), queries=QuerySet(queries, qrels))


def test_products_of_the_nearest_query_come_first_by_grade():
    found = NearestQueryRetriever(corpus()).search(["shirt in red", "kettle", "boots"], 5)
    assert found.documents.tolist() == [[1, 3, 4, 0, -1], [2, -1, -1, -1, -1], [-1] * 5]
    texts = [(name, text) for name, (text, judged) in TRAINING.items() if judged]
    (first, best), (second, next_best) = lucene_bm25("shirt red", texts)
    assert (first, second) == ("a", "b")
    scores = found.scores[0, :4].tolist()
    assert scores == pytest.approx([best, best, best, next_best], rel=1e-5)
    assert (found.scores[found.documents < 0] == -np.inf).all()
    assert found.proven is None


def test_k_and_filters(monkeypatch):
    monkeypatch.setattr(nearest_query, "_SCORES_AT_ONCE", 1)  # a query at a time
    retriever, queries = NearestQueryRetriever(corpus()), ["red shirt", "kettle cotton"]
    assert retriever.search(queries, 2).documents.tolist() == [[1, 3], [2, 0]]
    allowed = np.array([True, False, True, True, True, True])
    found = retriever.search(queries, 2, allowed=allowed)
    assert found.documents.tolist() == [[3, 4], [2, 0]]
    each = np.stack([allowed, ~allowed])
    found = retriever.search(queries, 2, allowed=each)
    assert found.documents.tolist() == [[3, 4], [1, -1]]


@pytest.mark.parametrize("training", [{}, {"d": TRAINING["d"]}])
def test_training_queries_are_needed(training):
    with pytest.raises(InputError, match="found no training query with a product"):
        NearestQueryRetriever(corpus(training))
    with pytest.raises(InputError, match="found no training query with a product"):
        NearestQueryRetriever(Corpus(corpus().catalog))
