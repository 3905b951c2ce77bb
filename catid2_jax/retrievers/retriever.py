"""What a retriever is, and the retrievers by name.

One more retriever is one module and one row of `RETRIEVERS`, or a dotted path of your own.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from catid2_jax.data.corpus import Corpus
from catid2_jax.errors import InputError
from catid2_jax.plugins import construct, options_of, resolve


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The k best documents of each query, best first.

    Attributes:
        documents: int [Q, k], rows of the catalogue; -1 where there is no result.
        scores: float [Q, k], falling; -inf where there is no result.
        proven: bool [Q], whether no document outside the k can have a higher score; None if the
            retriever cannot tell.
    """

    documents: np.ndarray
    scores: np.ndarray
    proven: np.ndarray | None = None


class Retriever(Protocol):
    """Anything that ranks the products of a corpus. It is made by `Class(corpus, **options)`.

    Attributes:
        needs_embeddings: whether it reads `corpus.embeddings`.
        needs_query_vectors: whether it cannot search without the queries' vectors.
        needs_queries: whether it reads `corpus.queries`.
    """

    needs_embeddings: bool = True
    needs_query_vectors: bool = False
    needs_queries: bool = False

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        vectors: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> Ranking:
        """Ranks products for queries.

        Args:
            queries: Q texts.
            k: results per query, at least 1.
            vectors: float [Q, D], made by the encoder of the embeddings; None if unknown.
            allowed: bool [N] or [Q, N], the products that may be found; None for all.
        """
        ...


RETRIEVERS: Mapping[str, str] = {
    "bm25": "catid2_jax.retrievers.bm25:BM25Retriever",
    "generative": "catid2_jax.retrievers.generative:GenerativeRetriever",
    "clusters": "catid2_jax.retrievers.clusters:ClusterRetriever",
    "dense": "catid2_jax.retrievers.dense:DenseRetriever",
    "nearest_query": "catid2_jax.retrievers.nearest_query:NearestQueryRetriever",
    "dpr": "catid2_jax.retrievers.dpr:DPRRetriever",
    "fused": "catid2_jax.retrievers.fused:FusedRetriever",
}

TRAINED = ("generative", "clusters")
"""The retrievers that search with a trained stage 2; they are made with `model` and `config`."""

DPR = "dpr"
"""The retriever that searches with trained towers; it is made with `towers`."""

FUSED = "fused"
"""The retriever of other systems' retrievers; it is made with `retrievers`."""


def resolve_retriever(name: str) -> Any:
    """The class of a retriever.

    Raises:
        InputError: there is none of that name.
    """
    return resolve(name, RETRIEVERS, "retriever", ("search",))


def retriever_options(name: str) -> dict[str, Any]:
    """The options of a retriever with their defaults."""
    given = 3 if name in TRAINED else 2 if name in (DPR, FUSED) else 1
    return options_of(resolve_retriever(name), given)


def make_retriever(name: str, corpus: Corpus, options: Mapping[str, Any]) -> Retriever:
    """The retriever of a short name or a dotted path.

    Raises:
        InputError: there is none of that name, or an option that it does not have.
    """
    return construct(resolve_retriever(name), "retriever", corpus, **options)


def check_ranking(ranking: Any, queries: int, k: int, documents: int, name: str) -> Ranking:
    """What a retriever gave, checked against the catalogue.

    Raises:
        InputError: no ranking of these queries, rows that the catalogue does not have, a document
            twice, or scores that rise or are not finite.
    """
    where = f"retriever {name}"
    if not isinstance(ranking, Ranking):
        raise InputError(where, type(ranking).__name__, "a Ranking from search")
    found, scores = np.asarray(ranking.documents), np.asarray(ranking.scores)
    proven = None if ranking.proven is None else np.asarray(ranking.proven)
    if (
        found.ndim != 2
        or found.dtype.kind not in "iu"
        or scores.dtype.kind not in "fiu"
        or found.shape != scores.shape
        or len(found) != queries
        or found.shape[1] > k
    ):
        raise InputError(
            where,
            f"documents {found.dtype} {found.shape} and scores {scores.dtype} {scores.shape}",
            f"integers and numbers, both of [{queries}, at most {k}]",
        )
    if proven is not None and proven.shape != (queries,):
        raise InputError(where, f"proven {proven.shape}", f"[{queries}], or None")
    if found.size and (found.min() < -1 or found.max() >= documents):
        raise InputError(where, f"rows of {found.min()} to {found.max()}", f"-1 to {documents - 1}")
    in_order = np.sort(np.where(found < 0, -1 - np.arange(found.shape[1]), found), axis=1)
    twice = np.flatnonzero((in_order[:, 1:] == in_order[:, :-1]).any(axis=1))
    if twice.size:
        raise InputError(where, f"a document twice for query {twice[0]}", "each once")
    unknown = np.flatnonzero(((found >= 0) & ~np.isfinite(scores)).any(axis=1))
    if unknown.size:
        raise InputError(where, f"a score that is not finite for query {unknown[0]}", "numbers")
    with np.errstate(invalid="ignore"):  # -inf after -inf
        rising = np.flatnonzero((np.diff(np.where(found < 0, -np.inf, scores)) > 0).any(axis=1))
    if rising.size:
        raise InputError(where, f"scores that rise for query {rising[0]}", "the best first")
    return Ranking(found, scores, proven)
