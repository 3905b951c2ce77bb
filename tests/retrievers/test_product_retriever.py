"""Products for rows, and filters, around a retriever whose scores are known."""

import numpy as np
import pytest

from catid2_jax.data.corpus import Catalog
from catid2_jax.decoding.filters import Filter
from catid2_jax.docids.table import DocidTable
from catid2_jax.errors import InputError
from catid2_jax.retrievers import product_retriever as module
from catid2_jax.retrievers.product_retriever import ProductRetriever
from catid2_jax.retrievers.retriever import Ranking
from catid2_jax.types import Product

N = 7
CATALOG = Catalog.from_products(
    Product(f"p{n}", f"title {n}", "", ("Home", ("Lamps", "Rugs")[n % 2])) for n in range(N)
)
TABLE = DocidTable(CATALOG.ids, [[n // 4, n % 4 if n < 6 else -1] for n in range(N)])


def score(query, row):
    """Of the query "3": product 3 first, then by the distance from it."""
    return -abs(int(query) - row - 0.1)


class Known:
    """Finds all that is allowed, notes what it was asked, and gives no more columns than needed."""

    def __init__(self, proven=True):
        self.proven, self.asked = proven, []

    def search(self, queries, k, *, vectors=None, allowed=None):
        self.asked.append((list(queries), None if vectors is None else vectors.tolist(), allowed))
        allowed = np.ones(N, bool) if allowed is None else allowed
        mask = np.broadcast_to(allowed, (len(queries), N))
        scores = np.array([[score(query, row) for row in range(N)] for query in queries])
        scores = np.where(mask, scores, -np.inf)
        width = min(k, mask.sum(axis=1).max())
        rows = np.argsort(-scores, axis=1)[:, :width]
        scores = np.take_along_axis(scores, rows, axis=1)
        proven = np.array([query != "0" for query in queries]) if self.proven else None
        return Ranking(np.where(scores > -np.inf, rows, -1), scores, proven)


def expected(query, allowed, k):
    """(row, score) of the best of some rows."""
    rows = sorted(allowed, key=lambda row: -score(query, row))[:k]
    return [(row, score(query, row)) for row in rows]


def found(ranking):
    return [
        [(row, s) for row, s in zip(rows, scores, strict=True) if row >= 0]
        for rows, scores in zip(ranking.documents.tolist(), ranking.scores.tolist(), strict=True)
    ]


def test_hits():
    retriever = ProductRetriever("known", CATALOG, Known(), TABLE)
    hits = retriever.search("6", k=2)
    assert [(hit.product, hit.score, hit.docid) for hit in hits] == [
        (CATALOG[6], score("6", 6), "<a_1>"),  # a shorter one
        (CATALOG[5], score("6", 5), "<a_1><b_1>"),
    ]
    assert hits.proven is True
    several = retriever.search(["0", "6"], k=2)
    assert [hits.proven for hits in several] == [False, True]
    assert several[1] == hits
    assert len(retriever.search("3", k=100)) == N
    plain = ProductRetriever("known", CATALOG, Known(proven=False))
    assert [hit.docid for hit in plain.search("6", k=2)] == ["", ""]
    assert plain.search("6").proven is None


def test_vectors_reach_the_retriever_as_rows():
    known = Known()
    retriever = ProductRetriever("known", CATALOG, known)
    retriever.search("1", vectors=[1.0, 2.0])
    retriever.search(["1", "2"], vectors=np.ones((2, 2)))
    retriever.search("1")
    assert [vectors for _, vectors, _ in known.asked] == [[[1.0, 2.0]], [[1.0, 1.0]] * 2, None]


@pytest.mark.parametrize("entries", [1, N, 2 * N + 1, 2**28])
@pytest.mark.parametrize("proven", [True, False])
def test_queries_have_filters_of_their_own(monkeypatch, entries, proven):
    """However many masks are held at once."""
    monkeypatch.setattr(module, "_MASK_ENTRIES", entries)
    known = Known(proven)
    retriever = ProductRetriever("known", CATALOG, known)
    queries = ["3", "0", "5", "2", "6"]
    own = {
        1: Filter(allow_ids=("p4", "p5", "p6")),
        3: Filter(deny_categories=(("Home", "Lamps"),)),
        4: Filter(allow_ids=()),
    }
    general = Filter(deny_ids=("p5",))
    vectors = np.arange(10.0).reshape(5, 2)
    ranking = retriever.rank(queries, 4, vectors, general, own)
    allowed = [{0, 1, 2, 3, 4, 6}, {4, 6}, {0, 1, 2, 3, 4, 6}, {1, 3}, set()]
    assert found(ranking) == [
        expected(query, rows, 4) for query, rows in zip(queries, allowed, strict=True)
    ]
    if proven:
        assert ranking.proven.tolist() == [query != "0" for query in queries]
    else:
        assert ranking.proven is None
    together = max(1, entries // N)
    assert [asked for asked, _, _ in known.asked] == [
        queries[start : start + together] for start in range(0, 5, together)
    ]
    assert [row for _, given, _ in known.asked for row in given] == vectors.tolist()
    # The same for all is one mask.
    retriever.rank(queries, 4, None, general)
    assert known.asked[-1][2].tolist() == [row != 5 for row in range(N)]


def test_errors_name_the_query_and_the_filter():
    retriever = ProductRetriever("known", CATALOG, Known())
    names = ["'first'", "'second'"]
    unknown = {1: Filter(allow_ids=("p9",))}
    for call, where in (
        (lambda: retriever.rank(["1", " "], 2), "query 1"),
        (lambda: retriever.rank(["1", " "], 2, names=names), "query 'second'"),
        (lambda: retriever.rank(["1", "2"], 2, own=unknown), "query 1"),
        (lambda: retriever.rank(["1", "2"], 2, own=unknown, names=names), "query 'second'"),
        (lambda: retriever.rank(["1"], 2, None, Filter(deny_ids=("p9",))), "filter"),
        (lambda: retriever.rank(["1"], 2, None, Filter(deny_ids=("p9",)), None, "file"), "file"),
        (lambda: retriever.rank([], 2), "queries"),
        (lambda: retriever.rank(["1"], 0), "k"),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert error.value.where == where
    assert retriever.retriever.asked == []  # what is wrong is said before the search


def test_what_the_retriever_finds_is_checked():
    known = Known()
    retriever = ProductRetriever("known", CATALOG, known)
    known.search = lambda queries, k, *, vectors, allowed: Ranking([[2, 1]], [[2.0, 1.0]])
    assert len(retriever.search("1", k=2, allow_ids=["p1", "p2"])) == 2
    with pytest.raises(InputError) as error:
        retriever.search("1", k=1)
    assert error.value.where == "retriever known"
    for filters in (
        {"deny_ids": ["p1"]},
        {"allow_ids": ["p1"]},
        {"allow_categories": [("Home", "Lamps")]},
    ):
        with pytest.raises(InputError, match="which the filter excludes"):
            retriever.search("1", k=2, **filters)
    with pytest.raises(InputError, match="row 1, which the filter excludes"):
        retriever.rank(["1"], 2, own={0: Filter(deny_ids=("p1",))})
