"""BM25 over the products' text (bm25s), the paper's sparse baseline."""

import logging
from collections.abc import Iterator, Sequence

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it speaks at DEBUG through the root logger


def bm25_rankings(
    documents: Sequence[tuple[str, str]], queries: Sequence[tuple[str, str]], k: int
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Ranks documents by BM25 with the library's defaults and English stop words.

    Args:
        documents: (id, text).
        queries: (id, text).
        k: documents per query at most; those without a word of the query are not among them.

    Yields:
        (query id, [(document id, score), ...] best first).
    """
    import bm25s  # here, since importing it starts JAX, which several processes must do together

    index = bm25s.BM25()
    corpus = bm25s.tokenize([text for _, text in documents], stopwords="en", show_progress=False)
    index.index(corpus, show_progress=False)
    tokens = bm25s.tokenize(
        [text for _, text in queries], stopwords="en", show_progress=False, return_ids=False
    )
    rows, scores = index.retrieve(tokens, k=min(k, len(documents)), show_progress=False)
    for (query_id, _), row, score in zip(queries, rows, scores, strict=True):
        yield (
            query_id,
            [(documents[d][0], float(s)) for d, s in zip(row, score, strict=True) if s > 0],
        )
