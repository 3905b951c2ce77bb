"""A retriever of one's own: how many words of the query a product has."""

from collections.abc import Sequence

import numpy as np

import catid2_jax


class MyRetriever(catid2_jax.Retriever):
    """Counts the query's words in a product's title and, by a weight, in its categories."""

    needs_embeddings = False

    def __init__(self, corpus: catid2_jax.Corpus, category_weight: float = 0.5) -> None:
        self.titles = [set(title.lower().split()) for title in corpus.catalog.titles]
        self.paths = [set(" ".join(path).lower().split()) for path in corpus.catalog.paths]
        self.category_weight = category_weight

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        vectors: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> catid2_jax.Ranking:
        scores = np.array([self.score(set(query.lower().split())) for query in queries])
        if allowed is not None:
            scores = np.where(allowed, scores, 0.0)
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(scores, rows, axis=1)
        return catid2_jax.Ranking(np.where(best > 0, rows, -1), np.where(best > 0, best, -np.inf))

    def score(self, words: set[str]) -> list[float]:
        return [
            len(words & title) + self.category_weight * len(words & path)
            for title, path in zip(self.titles, self.paths, strict=True)
        ]
