"""The products of the training queries nearest to a query: what any trained model has to beat."""

from collections.abc import Sequence

import numpy as np

from catid2_jax.data.corpus import Corpus
from catid2_jax.errors import InputError
from catid2_jax.retrievers.bm25 import BM25Index, Language
from catid2_jax.retrievers.retriever import Ranking, Retriever
from catid2_jax.types import GRADES

_SCORES_AT_ONCE = 2**24  # of queries by training queries, in memory


class NearestQueryRetriever(Retriever):
    """Finds training queries by BM25 and gives their products, those of the nearest query first.

    A product's score is the BM25 score of a training query times its grade for that as a share of
    the highest grade, the best of all training queries.
    """

    needs_embeddings = False
    needs_queries = True

    def __init__(
        self, corpus: Corpus, language: Language = "english", substitutes: bool = True
    ) -> None:
        """Indexes the training queries that have products.

        Args:
            corpus: the products, and the training queries with their relevant products.
            language: whose stop words BM25 leaves out of the queries; "spanish" and "japanese" also
                take letters without accents and in their compatibility form.
            substitutes: whether products below the highest grade are found, too.

        Raises:
            InputError: no training query has a product, or an unknown language.
        """
        known, rows = corpus.queries, corpus.catalog.rows
        judged = [q for q in known.queries if known.qrels.get(q.id)] if known else []
        if known is None or not judged:
            raise InputError("queries", "no training query with a product", "at least one")
        pairs = [
            (number, rows[product], grade)
            for number, query in enumerate(judged)
            for product, grade in known.qrels[query.id].items()
        ]
        self._query, self._product, grades = np.array(pairs).T
        share = grades / max(GRADES.values())
        self._share = share if substitutes else share * (share == 1)
        self._size, self._count = len(corpus), len(judged)
        self._index = BM25Index([query.text for query in judged], "queries", language=language)

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        vectors: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> Ranking:
        """Ranks the products of the training queries that share a word with the query.

        Products of equal scores come in the catalogue's order.
        """
        k, at_once = min(k, self._size), max(1, _SCORES_AT_ONCE // self._count)
        documents, scores = np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf)
        for start in range(0, len(queries), at_once):
            nearest, similarity = self._index.search(queries[start : start + at_once], self._count)
            for number, (found, near) in enumerate(zip(nearest, similarity, strict=True), start):
                of_products = self._score(found, near)
                if allowed is not None:
                    of_products *= allowed if allowed.ndim == 1 else allowed[number]
                best = np.argsort(-of_products, kind="stable")[:k]
                hit = of_products[best] > 0
                documents[number] = np.where(hit, best, -1)
                scores[number] = np.where(hit, of_products[best], -np.inf)
        return Ranking(documents, scores)

    def _score(self, nearest: np.ndarray, similarity: np.ndarray) -> np.ndarray:
        """Scores of all products, [N], 0 without a training query that was found."""
        of_queries, of_products = np.zeros(self._count), np.zeros(self._size)
        there = nearest >= 0
        of_queries[nearest[there]] = similarity[there]
        np.maximum.at(of_products, self._product, of_queries[self._query] * self._share)
        return of_products
