"""Reciprocal rank fusion: several retrievers' rankings as one."""

from collections.abc import Sequence

import numpy as np

from catid2_jax.constraints import PositiveInt
from catid2_jax.data.corpus import Corpus
from catid2_jax.errors import InputError
from catid2_jax.retrievers.retriever import Ranking, Retriever


class FusedRetriever(Retriever):
    """Ranks by the sum of 1 / (constant + rank) over the retrievers (Cormack et al., 2009).

    A product that a retriever does not find among its k best gets nothing from it.
    """

    needs_embeddings = False

    def __init__(
        self,
        corpus: Corpus,
        retrievers: Sequence[Retriever],
        systems: tuple[str, ...] = ("cat_id2", "bm25", "nearest_query"),
        constant: PositiveInt = 60,
    ) -> None:
        """Takes the retrievers.

        Args:
            corpus: the products.
            retrievers: those of `systems`.
            systems: the systems whose rankings are fused, two or more.
            constant: how little the first ranks count for more than the next; 60 in the paper.

        Raises:
            InputError: fewer than two systems, or one twice.
        """
        if len(set(systems)) < max(2, len(systems)):
            raise InputError("systems", repr(systems), "two systems or more, each once")
        self._retrievers, self._constant, self._size = retrievers, constant, len(corpus)

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        vectors: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> Ranking:
        """Ranks what the retrievers find for the queries, equal scores by the catalogue's order."""
        found = [
            retriever.search(queries, k, vectors=vectors, allowed=allowed).documents
            for retriever in self._retrievers
        ]
        return reciprocal_rank_fusion(found, k, self._constant)


class OwnVectors(Retriever):
    """A retriever whose embeddings are not those of the others: it has no use for their vectors."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        vectors: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> Ranking:
        """Ranks for the queries' texts."""
        return self._retriever.search(queries, k, allowed=allowed)


def reciprocal_rank_fusion(rankings: Sequence[np.ndarray], k: int, constant: int = 60) -> Ranking:
    """Fuses rankings of the same queries.

    Args:
        rankings: int [Q, any] each, rows of the catalogue, best first; -1 where there is no result.
        k: results per query.
        constant: see `FusedRetriever`.
    """
    queries = len(rankings[0])
    documents, scores = np.full((queries, k), -1), np.full((queries, k), -np.inf)
    for query in range(queries):
        found = [ranking[query] for ranking in rankings]
        rows = np.concatenate(found)
        gains = np.concatenate([1.0 / (constant + 1.0 + np.arange(len(part))) for part in found])
        unique, places = np.unique(rows[rows >= 0], return_inverse=True)
        sums = np.bincount(places, gains[rows >= 0], len(unique))
        best = np.argsort(-sums, kind="stable")[:k]
        documents[query, : len(best)], scores[query, : len(best)] = unique[best], sums[best]
    return Ranking(documents, scores)
