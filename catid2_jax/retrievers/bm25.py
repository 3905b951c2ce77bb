"""BM25 over the products' text (bm25s), the paper's sparse baseline."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from catid2_jax.data.catalog import product_text
from catid2_jax.data.corpus import Corpus
from catid2_jax.data.words import without_accents, words
from catid2_jax.errors import InputError
from catid2_jax.progress import console
from catid2_jax.retrievers.retriever import Ranking, Retriever

Language = Literal["english", "spanish", "japanese"]

_STOP_WORDS: Mapping[str, str] = {
    "english": "STOPWORDS_EN",
    "spanish": "STOPWORDS_SPANISH",
    "japanese": "",  # what pairs of characters are cut from has no words to leave out
}
"""Language -> name of bm25s's list of its stop words."""


class BM25Index:
    """BM25 with bm25s's defaults over texts of one language, without its stop words."""

    def __init__(
        self,
        texts: Sequence[str],
        of: str,
        tokens: Literal["words_and_bigrams", "words"] = "words_and_bigrams",
        language: Language = "english",
    ) -> None:
        """Indexes N texts.

        Args:
            texts: the texts.
            of: what they are, for messages.
            tokens: see `BM25Retriever`.
            language: see `BM25Retriever`.

        Raises:
            InputError: an unknown `tokens` or `language`.
        """
        import bm25s  # here: importing it starts JAX, which several processes must do together

        if tokens not in ("words_and_bigrams", "words"):
            raise InputError("tokens", repr(tokens), "'words_and_bigrams' or 'words'")
        if language not in _STOP_WORDS:
            raise InputError("language", repr(language), f"one of {', '.join(_STOP_WORDS)}")
        logging.getLogger("bm25s").setLevel(logging.WARNING)  # DEBUG, by the root logger
        self._cut = words if tokens == "words_and_bigrams" else re.compile(r"\b\w\w+\b").findall
        self._fold = str if language == "english" else without_accents
        stop_words = getattr(bm25s.stopwords, _STOP_WORDS[language], ())
        self._stop_words = frozenset(map(self._fold, stop_words))
        found = self._tokens(texts)
        self._size = len(texts)
        self._has_words = any(found)
        _report_blank(found, f"{of} have no word that BM25 could find them by")
        self._index = bm25s.BM25()
        if self._has_words:
            self._index.index(found, show_progress=False)

    def search(
        self, queries: Sequence[str], k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the texts that have a word of the query, best first; those of equal scores by row.

        Args:
            queries: Q texts.
            k: results per query, at least 1.
            allowed: bool [N] or [Q, N], what may be found; None for everything.

        Returns:
            (rows [Q, k or fewer], -1 where there is no result; scores, -inf there).
        """
        tokens = self._tokens(queries)
        _report_blank(tokens, "queries have no word that BM25 could search for")
        if not self._has_words:
            shape = (len(queries), 1)
            return np.full(shape, -1), np.full(shape, -np.inf)
        k = min(k, self._size)
        if allowed is None or allowed.ndim == 1:
            rows, scores = self._retrieve(tokens, k, allowed)
        else:
            found = [
                self._retrieve([words], k, mask)
                for words, mask in zip(tokens, allowed, strict=True)
            ]
            rows, scores = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        hit = scores > 0
        return np.where(hit, rows, -1), np.where(hit, scores, -np.inf)

    def _retrieve(
        self, tokens: list[list[str]], k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(rows, scores) [Q, k]; what is not allowed scores 0."""
        mask = None if allowed is None else allowed.astype(np.float32)
        found = self._index.retrieve(tokens, k=k, show_progress=False, weight_mask=mask)
        return np.asarray(found.documents), np.asarray(found.scores)

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text but the stop words."""
        return [
            [word for word in self._cut(self._fold(text.lower())) if word not in self._stop_words]
            for text in texts
        ]


class BM25Retriever(Retriever):
    """BM25 with the library's defaults over title, text and categories."""

    needs_embeddings = False

    def __init__(
        self,
        corpus: Corpus,
        tokens: Literal["words_and_bigrams", "words"] = "words_and_bigrams",
        language: Language = "english",
    ) -> None:
        """Indexes the products.

        Args:
            corpus: the products.
            tokens: "words_and_bigrams" for pairs of characters where a script has no spaces, see
                `data.words`; "words" for bm25s's own, to which a Japanese or Chinese phrase is one
                word. Other texts are the same to both.
            language: whose stop words are left out: "english", "spanish", or "japanese", which has
                none. In the last two, letters are also taken without accents and in their
                compatibility form, full-width ones as others.

        Raises:
            InputError: an unknown `tokens` or `language`.
        """
        texts = [product_text(product, with_categories=True) for product in corpus.catalog]
        self._index = BM25Index(texts, "products", tokens, language)

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        vectors: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> Ranking:
        """Ranks the products that have a word of the query; the others are not among them.

        Products of equal scores come in the catalogue's order.
        """
        return Ranking(*self._index.search(queries, k, allowed))


def _report_blank(tokens: Sequence[Sequence[str]], what: str) -> None:
    blank = sum(not words for words in tokens)
    if blank:
        console.print(f"{blank:,} of {len(tokens):,} {what}")
