"""The products of the nearest training queries, beside Lucene's BM25 written out."""

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


def written_out(query, allowed=range(6), lowest=0):
    """(row, score) of all products that are found, by the sums of Lucene's BM25."""
    texts = [(name, text) for name, (text, judged) in TRAINING.items() if judged]
    best = {}
    for name, score in lucene_bm25(query, texts):
        for product, grade in TRAINING[name][1].items():
            row = int(product[1:])
            if row in allowed and grade >= lowest:
                best[row] = max(best.get(row, 0.0), score * grade / 3)
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))


def check(found, queries, k, allowed):
    assert found.documents.shape == found.scores.shape == (len(queries), min(k, 6))
    for number, query in enumerate(queries):
        expected = written_out(query, allowed[number])[:k]
        there = found.documents[number] >= 0
        assert found.documents[number][there].tolist() == [row for row, _ in expected]
        scores = found.scores[number]
        assert scores[there].tolist() == pytest.approx([s for _, s in expected], rel=1e-5)
        assert (scores[~there] == -np.inf).all()


QUERIES = ["shirt red", "kettle cotton", "boots"]


@pytest.mark.parametrize("scores_at_once", [2**24, 1])
@pytest.mark.parametrize("k", [1, 3, 9])
def test_products_of_the_nearest_query_come_first_by_grade(monkeypatch, k, scores_at_once):
    monkeypatch.setattr(nearest_query, "_SCORES_AT_ONCE", scores_at_once)
    found = NearestQueryRetriever(corpus()).search(QUERIES, k)
    check(found, QUERIES, k, [range(6)] * 3)
    assert found.documents[0, 0] == 1  # exact for both
    assert found.proven is None


def test_substitutes_can_be_left_out():
    found = NearestQueryRetriever(corpus(), substitutes=False).search(QUERIES, 9)
    for number, query in enumerate(QUERIES):
        rows = [row for row, _ in written_out(query, lowest=3)]
        there = found.documents[number] >= 0
        assert found.documents[number][there].tolist() == rows


def test_only_what_is_allowed_is_found():
    retriever, each = NearestQueryRetriever(corpus()), np.random.default_rng(0).random((3, 6)) < 0.6
    found = retriever.search(QUERIES, 9, allowed=each)
    check(found, QUERIES, 9, [np.flatnonzero(mask).tolist() for mask in each])
    found = retriever.search(QUERIES, 9, allowed=each[0])
    check(found, QUERIES, 9, [np.flatnonzero(each[0]).tolist()] * 3)


@pytest.mark.parametrize("training", [{}, {"d": TRAINING["d"]}])
def test_training_queries_are_needed(training):
    with pytest.raises(InputError, match="found no training query with a product"):
        NearestQueryRetriever(corpus(training))
    with pytest.raises(InputError, match="found no training query with a product"):
        NearestQueryRetriever(Corpus(corpus().catalog))
