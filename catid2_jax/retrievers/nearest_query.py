"""The products of the training queries nearest to a query: what any trained model has to beat."""

from collections.abc import Iterator, Sequence

import numpy as np

from catid2_jax.data.corpus import Corpus
from catid2_jax.errors import InputError
from catid2_jax.retrievers.bm25 import BM25Index, Language
from catid2_jax.retrievers.retriever import Ranking, Retriever

_SCORES_AT_ONCE = 2**24  # of queries by training queries, in memory


class NearestQueryRetriever(Retriever):
    """Finds training queries by BM25 and gives their products, those of the nearest query first.

    Of one training query's products the higher grade comes first, then the catalogue's order. All
    of them have the score of their query.
    """

    needs_embeddings = False
    needs_queries = True

    def __init__(self, corpus: Corpus, language: Language = "english") -> None:
        """Indexes the training queries that have products.

        Args:
            corpus: the products, and the training queries with their relevant products.
            language: of the queries, as `bm25` has it.

        Raises:
            InputError: no training query has a product, or an unknown language.
        """
        known, rows = corpus.queries, corpus.catalog.rows
        judged = [q for q in known.queries if known.qrels.get(q.id)] if known else []
        if known is None or not judged:
            raise InputError("queries", "no training query with a product", "at least one")
        self._products = [
            [row for _, row in sorted((-grade, rows[p]) for p, grade in known.qrels[q.id].items())]
            for q in judged
        ]
        self._index = BM25Index([query.text for query in judged], "queries", language=language)

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        vectors: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> Ranking:
        """Ranks the products of the training queries that share a word with the query."""
        shape = (len(queries), k)
        documents, scores = np.full(shape, -1), np.full(shape, -np.inf)
        at_once = max(1, _SCORES_AT_ONCE // len(self._products))
        for start in range(0, len(queries), at_once):
            part = queries[start : start + at_once]
            nearest, similarity = self._index.search(part, len(self._products))
            for query in range(start, start + len(part)):
                mask = allowed if allowed is None or allowed.ndim == 1 else allowed[query]
                found = self._walk(nearest[query - start], similarity[query - start], k, mask)
                for place, (row, score) in enumerate(found):
                    documents[query, place], scores[query, place] = row, score
        return Ranking(documents, scores)

    def _walk(
        self, nearest: np.ndarray, similarity: np.ndarray, k: int, allowed: np.ndarray | None
    ) -> Iterator[tuple[int, float]]:
        """Yields (row, score) of the first k products, each once."""
        seen: set[int] = set()
        for query, score in zip(nearest.tolist(), similarity.tolist(), strict=True):
            for row in self._products[query] if query >= 0 else ():
                if len(seen) == k:
                    return
                if row not in seen and (allowed is None or allowed[row]):
                    seen.add(row)
                    yield row, score
