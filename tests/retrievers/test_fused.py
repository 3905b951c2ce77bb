"""Reciprocal rank fusion beside the sums written out."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.errors import InputError
from catid2_jax.retrievers.fused import FusedRetriever, OwnVectors, reciprocal_rank_fusion
from catid2_jax.retrievers.retriever import Ranking, Retriever, check_ranking
from catid2_jax.types import Product

N = 8
CORPUS = Corpus(Catalog.from_products(Product(f"p{n}", "t", "", ("c",)) for n in range(N)))


def fused(rankings, k, constant):
    """(row, sum of 1 / (constant + rank)) of one query, exactly."""
    scores = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, 1):
            scores[row] = scores.get(row, 0) + Fraction(1, constant + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:k]


def padded(ranking, width):
    return np.array([[*ranking, *[-1] * (width - len(ranking))]])


rankings = st.permutations(range(N)).flatmap(lambda r: st.integers(0, N).map(lambda n: r[:n]))


@given(st.lists(rankings, min_size=2, max_size=3), st.integers(1, N + 2), st.integers(1, 60))
def test_scores_are_sums_of_reciprocal_ranks(found, k, constant):
    ranking = reciprocal_rank_fusion([padded(r, N + n) for n, r in enumerate(found)], k, constant)
    check_ranking(ranking, 1, k, N, "fused")
    expected = fused(found, k, constant)
    count = int((ranking.documents >= 0).sum())
    assert count == len(expected)
    scores = {row: float(score) for row, score in fused(found, N, constant)}
    rows = ranking.documents[0, :count].tolist()
    assert ranking.scores[0, :count].tolist() == pytest.approx([s for _, s in map(tuple, expected)])
    assert [scores[row] for row in rows] == pytest.approx(ranking.scores[0, :count].tolist())


def test_equal_scores_go_by_the_catalogue_s_order():
    ranking = reciprocal_rank_fusion([np.array([[5, 2]]), np.array([[2, 5]])], 2)
    assert ranking.documents.tolist() == [[2, 5]]
    assert ranking.scores.tolist() == [[pytest.approx(1 / 61 + 1 / 62)] * 2]


class Fixed(Retriever):
    """Finds what it is told, and notes how it was asked."""

    def __init__(self, documents):
        self.documents, self.asked = documents, None

    def search(self, queries, k, *, vectors=None, allowed=None):
        self.asked = (queries, k, vectors, allowed)
        return Ranking(np.array([self.documents] * len(queries)), np.zeros((len(queries), 2)))


def test_every_retriever_is_asked_alike_but_for_vectors_of_another_encoder():
    one, other = Fixed([0, 1]), Fixed([1, 2])
    retriever = FusedRetriever(CORPUS, [one, OwnVectors(other)], ("a", "b"), constant=1)
    vectors, allowed = np.zeros((1, 2)), np.ones(N, bool)
    found = retriever.search(["q"], 2, vectors=vectors, allowed=allowed)
    assert found.documents.tolist() == [[1, 0]]
    assert found.scores.tolist() == [[pytest.approx(1 / 3 + 1 / 2), pytest.approx(1 / 2)]]
    assert one.asked == (["q"], 2, vectors, allowed)
    assert other.asked == (["q"], 2, None, allowed)


@pytest.mark.parametrize("systems", [(), ("bm25",), ("bm25", "bm25")])
def test_two_systems_are_needed(systems):
    with pytest.raises(InputError) as error:
        FusedRetriever(CORPUS, [], systems)
    assert (error.value.where, error.value.found) == ("systems", repr(systems))
