"""DPR: exact search by the vectors of two trained towers."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from catid2_jax.constraints import PositiveFloat, PositiveInt
from catid2_jax.data.corpus import Corpus
from catid2_jax.retrievers.dense import ExactSearch
from catid2_jax.retrievers.retriever import Ranking, Retriever
from catid2_jax.retrievers.towers import QUERY, Tower, encode_all
from catid2_jax.seq2seq.source import Source


@dataclasses.dataclass(frozen=True)
class TrainedTowers:
    """The trained towers, ready to search.

    Attributes:
        tower: the network of both.
        params: parameters of both.
        source: the form in which the query tower reads queries.
        documents: vectors of the products by the other tower, float [N, E].
    """

    tower: Tower
    params: Any
    source: Source
    documents: np.ndarray


class DPRRetriever(Retriever):
    """Ranks all products by the cosine of the two towers' vectors (Karpukhin et al., 2020)."""

    def __init__(
        self,
        corpus: Corpus,
        towers: TrainedTowers,
        product_tokens: PositiveInt = 64,
        temperature: PositiveFloat = 0.05,
        mined: PositiveInt = 10,
    ) -> None:
        """Takes the trained towers.

        Args:
            corpus: the products.
            towers: both towers and the products' vectors.
            product_tokens: tokens of a product's title, text and categories that its tower reads;
                more are cut.
            temperature: divides the cosines in the loss.
            mined: products of BM25's ranking of a training query, none of them relevant to it, that
                its pairs take for hard negatives in turn.
        """
        self._towers = towers
        self._search = ExactSearch(towers.documents)

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        vectors: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> Ranking:
        """Ranks by cosine; no product outside the k has a higher one.

        Raises:
            InputError: the towers read vectors, and there are none.
        """
        towers = self._towers
        sources = towers.source.of_queries(queries, vectors)
        encoded = encode_all(towers.tower, towers.params[QUERY], sources)
        found = self._search.search(encoded, k, allowed)
        return Ranking(*found, np.ones(len(queries), bool))
