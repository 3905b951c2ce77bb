"""BM25 over the products' text (bm25s), the paper's sparse baseline."""

import logging
from collections.abc import Sequence

import numpy as np

from catid2_jax.data.catalog import product_text
from catid2_jax.data.corpus import Corpus
from catid2_jax.retrievers.retriever import Ranking, Retriever


class BM25Retriever(Retriever):
    """BM25 with the library's defaults and English stop words over title, text and categories."""

    needs_embeddings = False

    def __init__(self, corpus: Corpus) -> None:
        """Indexes the products."""
        import bm25s  # here: importing it starts JAX, which several processes must do together

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # DEBUG, by the root logger
        texts = [product_text(product, with_categories=True) for product in corpus.catalog]
        self._library, self._documents = bm25s, len(texts)
        self._index = bm25s.BM25()
        self._index.index(
            bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False
        )

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        vectors: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> Ranking:
        """Ranks the products that have a word of the query; the others are not among them."""
        tokens = self._library.tokenize(
            list(queries), stopwords="en", show_progress=False, return_ids=False
        )
        k = min(k, self._documents)
        if allowed is None or allowed.ndim == 1:
            rows, scores = self._retrieve(tokens, k, allowed)
        else:
            found = [
                self._retrieve([words], k, mask)
                for words, mask in zip(tokens, allowed, strict=True)
            ]
            rows, scores = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        hit = scores > 0
        return Ranking(np.where(hit, rows, -1), np.where(hit, scores, -np.inf))

    def _retrieve(
        self, tokens: list[list[str]], k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(rows, scores) [Q, k]; a product that is not allowed scores 0."""
        mask = None if allowed is None else allowed.astype(np.float32)
        found = self._index.retrieve(tokens, k=k, show_progress=False, weight_mask=mask)
        return np.asarray(found.documents), np.asarray(found.scores)
