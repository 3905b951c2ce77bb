"""Plug-ins with one fault each."""

import numpy as np

import catid2_jax


def _ranks(corpus):
    return np.arange(len(corpus))[:, None] // [25, 5, 1] % 5


class SchemeOfOneId:
    def fit(self, corpus, run):
        codes = _ranks(corpus)
        codes[7] = codes[3]
        return catid2_jax.DocidTable(corpus.catalog.ids, codes)


class SchemeOfTooFew:
    def fit(self, corpus, run):
        return catid2_jax.DocidTable(corpus.catalog.ids[:-1], _ranks(corpus)[:-1])


class SchemeOfLargeCodes:
    def fit(self, corpus, run):
        return catid2_jax.DocidTable(corpus.catalog.ids, _ranks(corpus), codebook_size=4)


class SchemeOfAnotherOrder:
    def fit(self, corpus, run):
        return catid2_jax.DocidTable(corpus.catalog.ids[::-1], _ranks(corpus))


class SchemeOfAnArray:
    def fit(self, corpus, run):
        return _ranks(corpus)


class SchemeThatNeedsAnOption:
    def __init__(self, branches):
        self.branches = branches

    def fit(self, corpus, run):
        return catid2_jax.DocidTable(corpus.catalog.ids, _ranks(corpus))


class _Retriever(catid2_jax.Retriever):
    """Finds rows 0, 1, ..., k - 1 for every query, with the scores k, k - 1, ..., 1."""

    needs_embeddings = False

    def __init__(self, corpus):
        self.size = len(corpus)

    def search(self, queries, k, *, vectors=None, allowed=None):
        shape = (len(queries), k)
        rows, scores = np.arange(k), np.arange(k, 0, -1.0)
        return self.spoilt(
            np.broadcast_to(rows, shape).copy(), np.broadcast_to(scores, shape).copy()
        )

    def spoilt(self, rows, scores):
        return catid2_jax.Ranking(rows, scores)


class RetrieverOfOtherRows(_Retriever):
    def spoilt(self, rows, scores):
        rows[1, 2] = self.size
        return catid2_jax.Ranking(rows, scores)


class RetrieverOfNegativeRows(_Retriever):
    def spoilt(self, rows, scores):
        rows[1, 2] = -2
        return catid2_jax.Ranking(rows, scores)


class RetrieverOfOneTwice(_Retriever):
    def spoilt(self, rows, scores):
        rows[3, 4] = rows[3, 1]
        return catid2_jax.Ranking(rows, scores)


class RetrieverOfRisingScores(_Retriever):
    def spoilt(self, rows, scores):
        return catid2_jax.Ranking(rows, -scores)


class RetrieverOfNan(_Retriever):
    def spoilt(self, rows, scores):
        scores[2, 1] = np.nan
        return catid2_jax.Ranking(rows, scores)


class RetrieverOfTooFewQueries(_Retriever):
    def spoilt(self, rows, scores):
        return catid2_jax.Ranking(rows[:-1], scores[:-1])


class RetrieverOfTooMany(_Retriever):
    def search(self, queries, k, **others):
        return super().search(queries, k + 1)


class RetrieverOfFloatRows(_Retriever):
    def spoilt(self, rows, scores):
        return catid2_jax.Ranking(rows.astype(float), scores)


class RetrieverOfOneProof(_Retriever):
    def spoilt(self, rows, scores):
        return catid2_jax.Ranking(rows, scores, np.array(True))


class RetrieverOfATuple(_Retriever):
    def spoilt(self, rows, scores):
        return rows, scores


class RetrieverThatIgnoresFilters(_Retriever):
    pass


class EncoderOfNan(catid2_jax.Encoder):
    def encode(self, texts):
        vectors = np.ones((len(texts), 4), np.float32)
        vectors[2, 1] = np.nan
        return vectors


class EncoderOfTooFew(catid2_jax.Encoder):
    def encode(self, texts):
        return np.ones((len(texts) - 1, 4), np.float32)


class EncoderOfIntegers(catid2_jax.Encoder):
    def encode(self, texts):
        return np.ones((len(texts), 4), int)


class EncoderOfNothing(catid2_jax.Encoder):
    pass


class EncoderWithoutItsBase:
    def encode(self, texts):
        return np.ones((len(texts), 4), np.float32)


class Neither:
    pass


A_NUMBER = 7
