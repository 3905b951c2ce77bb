"""Exact search by vectors: the cosine of a query's and every product's, on the device."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.data.corpus import Corpus
from catid2_jax.encoders.encoder import check_vectors
from catid2_jax.errors import InputError
from catid2_jax.ops.similarity import normalize
from catid2_jax.retrievers.retriever import Ranking, Retriever

_SCORES_AT_ONCE = 2**26  # of a batch of queries, held on the device


class ExactSearch:
    """The k vectors of the highest cosine, by comparing with all of them."""

    def __init__(self, vectors: np.ndarray) -> None:
        """Places N vectors on the device.

        Args:
            vectors: float [N, D].
        """
        self._vectors = normalize(jnp.asarray(vectors, jnp.float32))

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the best, those of equal scores by row.

        Args:
            queries: float [Q, D].
            k: results per query, at least 1.
            allowed: bool [N] or [Q, N], what may be found; None for everything.

        Returns:
            (rows [Q, k or N], -1 where there is no result; scores, -inf there).

        Raises:
            InputError: queries of another width.
        """
        size, width = self._vectors.shape
        if queries.shape[1] != width:
            raise InputError("vectors", f"width {queries.shape[1]}", f"the embeddings' {width}")
        k, count = min(k, size), len(queries)
        at_once = max(1, min(_SCORES_AT_ONCE // size, 1 << (count - 1).bit_length()))
        found = []
        for start in range(0, count, at_once):
            rows = np.minimum(np.arange(start, start + at_once), count - 1)  # one shape
            mask = allowed if allowed is None or allowed.ndim == 1 else allowed[rows]
            shown = None if mask is None else jnp.asarray(np.atleast_2d(mask))
            best = _best(jnp.asarray(queries[rows], jnp.float32), self._vectors, shown, k)
            found.append([np.asarray(part)[: count - start] for part in best])
        rows, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return np.where(scores > -np.inf, rows, -1), scores


@functools.partial(jax.jit, static_argnames="k")
def _best(
    queries: Float[Array, "B D"],
    vectors: Float[Array, "N D"],
    allowed: Bool[Array, "_ N"] | None,
    k: int,
) -> tuple[Int[Array, "B k"], Float[Array, "B k"]]:
    """(rows, cosines) of the best vectors, which are of unit norm."""
    scores = jnp.matmul(normalize(queries), vectors.T, precision="highest")
    if allowed is not None:
        scores = jnp.where(allowed, scores, -jnp.inf)
    best, rows = jax.lax.top_k(scores, k)
    return rows, best


class DenseRetriever(Retriever):
    """Ranks all products by the cosine of their embedding and the query's vector.

    Queries without given vectors are encoded by the encoder of the embeddings.
    """

    needs_query_vectors = True

    def __init__(self, corpus: Corpus) -> None:
        """Takes the products.

        Args:
            corpus: the products and their embeddings.
        """
        self._encode = corpus.encode_queries
        self._search = ExactSearch(corpus.embeddings)

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
            InputError: no vectors, and no encoder that makes them, or vectors of another width.
        """
        if vectors is None:
            if self._encode is None:
                raise InputError("vectors", "none", "a vector per query, by the products' encoder")
            vectors = self._encode(queries)
        found = self._search.search(check_vectors(vectors, queries), k, allowed)
        return Ranking(*found, np.ones(len(queries), bool))
