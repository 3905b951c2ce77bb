"""Beam search over a trie of document IDs, which reports whether its results are exact.

The search is independent of the model: a step function returns the log-probabilities of the next
code. A log-probability is at most 0, so a prefix's score is an upper bound on the scores of the
documents beneath it. The search keeps the best score that it pruned. Results with at least that
score are exact for the scores as computed: in batches of another size the model may round
differently.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.decoding.trie import NodeMask, Trie
from catid2_jax.errors import InputError

StepFunction: TypeAlias = Callable[
    [int, Int[Array, "B M"] | None, Any], tuple[Float[Array, "B M K"], Any]
]
"""(level, codes chosen at level - 1 or None at level 0, cache) -> (log-probabilities, cache).

The log-probabilities [B, M, K] are those of the codes of `level`; M is 1 at level 0. They may have
a column more, of the ID's end before `level`; without it ends are certain, with log-probability 0,
and an ID never scores below those that it begins. What follows an end is certain in any case. Every
leaf of the cache has the leading axes [B, M], which the search reorders together with the beams.
"""


@flax.struct.dataclass
class SearchResult:
    """The k documents found per query, best first.

    Attributes:
        documents: rows of the table of document IDs; -1 where there is no result.
        scores: sums of the log-probabilities of the IDs' codes; -inf where there is no result.
        bound: upper bound on the scores of the documents that the search did not reach; -inf if it
            reached all.
        exact: whether it is proven that no document outside the k has a higher score than one of
            them. Which of several documents with the k-th best score is found remains arbitrary.
    """

    documents: Int[Array | np.ndarray, "B k"]
    scores: Float[Array | np.ndarray, "B k"]
    bound: Float[Array | np.ndarray, " B"]
    exact: Bool[Array | np.ndarray, " B"]


@flax.struct.dataclass
class Prefixes:
    """The prefixes kept per query, best first; each leads to an allowed document.

    Attributes:
        nodes: the prefixes' nodes in the trie, at the level that equals their length.
        scores: sums of the log-probabilities of the codes; -inf where there is no prefix.
        bound: upper bound on the scores of the prefixes that were pruned and of the documents
            beneath them.
    """

    nodes: Int[Array, "B W"]
    scores: Float[Array, "B W"]
    bound: Float[Array, " B"]


def beam_search(
    step: StepFunction,
    cache: Any,
    trie: Trie,
    batch_size: int,
    beams: int,
    k: int,
    mask: NodeMask | None = None,
    renormalize: bool = False,
) -> SearchResult:
    """Finds documents whose IDs have high scores.

    With at least as many beams as documents the search is exhaustive. With a mask it finds k
    documents wherever k are allowed: every beam leads to an allowed document, and a beam is pruned
    only where `beams` others are kept.

    Args:
        step: the model, a `StepFunction`.
        cache: the model's state before level 0.
        trie: the documents.
        batch_size: B.
        beams: number of prefixes kept at each level; static.
        k: number of results per query; static.
        mask: the documents to choose from, from `Trie.mask`; None for all. It changes no score.
        renormalize: whether scores come from a softmax over each node's children; static.

    Returns:
        k results per query. Where there are fewer documents, or the score is -inf, the document is
        -1.

    Raises:
        InputError: `beams` is below 1, `k` is not in 1..beams, or the mask is not of this trie.
    """
    if not 1 <= k <= max(beams, 1):
        raise InputError("k", k, f"1 to beams = {beams}")
    found = search_prefixes(step, cache, trie, batch_size, beams, trie.levels, mask, renormalize)
    missing = ((0, 0), (0, max(k - found.scores.shape[1], 0)))
    scores = jnp.pad(found.scores, missing, constant_values=-jnp.inf)[:, :k]
    leaves = jnp.pad(found.nodes, missing)[:, :k]
    return SearchResult(
        documents=jnp.where(scores > -jnp.inf, trie.documents[leaves], -1),
        # A score that is not a number (NaN) proves nothing and is no result.
        scores=jnp.where(scores > -jnp.inf, scores, -jnp.inf),
        bound=found.bound,
        exact=jnp.all(scores >= found.bound[:, None], axis=1),
    )


def search_prefixes(
    step: StepFunction,
    cache: Any,
    trie: Trie,
    batch_size: int,
    beams: int,
    depth: int,
    mask: NodeMask | None = None,
    renormalize: bool = False,
) -> Prefixes:
    """Finds prefixes of `depth` codes that have high scores, one level of the trie per step.

    Level l has M_l beams and M_l C_l candidates, where C_l is the most children of a node, so that
    the cost of a step does not depend on the number of documents (STATIC, YouTube, 2026).
    M_{l+1} = min(beams, M_l C_l). Equal scores are ordered by the parent's rank, then by code.

    Args:
        step: the model, a `StepFunction`.
        cache: the model's state before level 0.
        trie: the documents.
        batch_size: B.
        beams: the most prefixes to keep at each level; static.
        depth: number of codes of a prefix; static.
        mask: the documents to choose from, from `Trie.mask`; None for all. It changes no score.
        renormalize: whether scores come from a softmax over each node's children; static.

    Returns:
        At most `beams` prefixes per query.

    Raises:
        InputError: `beams` is below 1, `depth` not in 1..L, or the mask is not of this trie.
    """
    if beams < 1:
        raise InputError("beams", beams, "at least 1")
    if not 1 <= depth <= trie.levels:
        raise InputError("depth", depth, f"1 to {trie.levels}, the length of an ID")
    if mask is not None:
        _check_mask(mask, trie, batch_size)
    nodes = jnp.zeros((batch_size, 1), jnp.int32)
    scores = jnp.zeros((batch_size, 1), jnp.float32)
    bound = jnp.full(batch_size, -jnp.inf)
    ended = jnp.zeros((batch_size, 1), bool)
    codes = None
    for level in range(depth):
        log_probabilities, cache = step(level, codes, cache)
        children, child_codes, valid = trie.children(level, nodes)
        gains = _gains(log_probabilities, child_codes, valid, trie, renormalize, ended)
        if mask is not None:
            valid &= _look_up(mask[level], children)
        candidates = jnp.where(valid, scores[:, :, None] + gains, -jnp.inf)
        scores, chosen, pruned = _best(candidates.reshape(batch_size, -1), beams)
        bound = jnp.maximum(bound, pruned)
        nodes, codes = (
            jnp.take_along_axis(array.reshape(batch_size, -1), chosen, axis=1)
            for array in (children, child_codes)
        )
        # The end of an ID is no code of the model, whose output after it is not used.
        ended = codes == trie.codebook_size
        codes = jnp.minimum(codes, trie.codebook_size - 1)
        cache = _reorder(cache, chosen // candidates.shape[2])
    return Prefixes(nodes, scores, bound)


def _check_mask(mask: NodeMask, trie: Trie, batch_size: int) -> None:
    """Raises InputError for the mask of another trie, in which JAX would clamp indices silently."""
    found = [level.shape for level in mask]
    capacities = [len(codes) for codes in trie.codes]
    expected = ([(n,) for n in capacities], [(batch_size, n) for n in capacities])
    if found not in expected:
        raise InputError("mask", f"shapes {found}", f"{expected[0]} or {expected[1]}")


def _gains(
    log_probabilities: Float[Array, "B M _"],
    codes: Int[Array, "B M C"],
    valid: Bool[Array, "B M C"],
    trie: Trie,
    renormalize: bool,
    ended: Bool[Array, "B M"],
) -> Float[Array, "B M C"]:
    """Computes what each child adds to its parent's score; arbitrary where it is not valid."""
    competing = valid
    if trie.has_ends and log_probabilities.shape[-1] == trie.codebook_size:  # ends are certain
        log_probabilities = jnp.pad(log_probabilities, ((0, 0), (0, 0), (0, 1)))
        competing = valid & (codes < trie.codebook_size)
    gains = jnp.take_along_axis(log_probabilities, codes, axis=-1)
    if renormalize:
        total = jax.nn.logsumexp(gains, axis=-1, keepdims=True, where=competing)
        # Where the total is -inf, all gains are too, and their difference would be NaN.
        gains -= jnp.where(competing & (total > -jnp.inf), total, 0.0)
    if trie.has_ends:
        gains = jnp.where(ended[:, :, None], 0.0, gains)
    # Rounding may lift the log-probability of a near certainty above 0, and so a document's score
    # above that of its prefix.
    return jnp.minimum(gains, 0.0)


def _best(
    candidates: Float[Array, "B n"], beams: int
) -> tuple[Float[Array, "B W"], Int[Array, "B W"], Float[Array, " B"]]:
    """Selects the best candidates.

    Returns:
        (at most `beams` scores, their indices among the candidates, the best of the other scores).
    """
    count = candidates.shape[1]
    width = min(beams, count)
    # Without a barrier XLA merges the slices below into the top-k, which it then no longer
    # recognises, and sorts all candidates. A single barrier for both arrays crashes XLA where the
    # candidates are sharded over devices.
    scores, chosen = map(
        jax.lax.optimization_barrier, jax.lax.top_k(candidates, min(width + 1, count))
    )
    pruned = jnp.max(scores[:, width:], axis=1, initial=-jnp.inf)
    return scores[:, :width], chosen[:, :width], pruned


def _look_up(mask: Bool[Array, "*batch E"], nodes: Int[Array, "B M C"]) -> Bool[Array, "B M C"]:
    """Looks up the mask of one level at some nodes."""
    if mask.ndim == 1:
        return mask[nodes]
    return jnp.take_along_axis(mask, nodes.reshape(len(nodes), -1), axis=1).reshape(nodes.shape)


def _reorder(cache: Any, parents: Int[Array, "B M"]) -> Any:
    """Copies to each beam its parent's part of the cache."""

    def gather(leaf: jax.Array) -> jax.Array:
        if leaf.shape[1] == 1:  # all beams have the same parent
            return jnp.broadcast_to(leaf, parents.shape + leaf.shape[2:])
        indices = parents.reshape(parents.shape + (1,) * (leaf.ndim - 2))
        return jnp.take_along_axis(leaf, indices, axis=1)

    return jax.tree.map(gather, cache)


def widen_until_exact(
    search: Callable[[np.ndarray, int], SearchResult],
    queries: int,
    batch_size: int,
    beams: int,
    max_beams: int,
) -> SearchResult:
    """Searches for all queries, and again with twice the beams where the result is not exact.

    Each number of beams costs a compilation. The next search gathers the queries from all batches.

    Args:
        search: (rows of `batch_size` queries, beams) -> their results. The last batch is filled
            up by repeating its rows.
        queries: number of queries.
        batch_size: number of queries per call.
        beams: number of beams of the first search.
        max_beams: the most beams of a search; equal to `beams` for a single one.

    Returns:
        The results of all queries in NumPy arrays.

    Raises:
        InputError: `queries` or `batch_size` is below 1, or `max_beams` below `beams`.
    """
    if queries < 1 or batch_size < 1:
        found_queries = f"{queries} queries in batches of {batch_size}"
        raise InputError("", found_queries, "at least 1 query and batches of at least 1")
    if max_beams < beams:
        raise InputError("max_beams", max_beams, f"at least beams = {beams}")
    found: SearchResult | None = None
    pending = np.arange(queries)
    while True:
        for start in range(0, len(pending), batch_size):
            rows = pending[start : start + batch_size]
            result = jax.tree.map(np.asarray, search(np.resize(rows, batch_size), beams))
            if found is None:
                found = jax.tree.map(lambda a: np.zeros((queries, *a.shape[1:]), a.dtype), result)
            for whole, part in zip(jax.tree.leaves(found), jax.tree.leaves(result), strict=True):
                whole[rows] = part[: len(rows)]
        assert found is not None
        pending = pending[~np.asarray(found.exact)[pending]]
        if not len(pending) or beams == max_beams:
            return found
        beams = min(2 * beams, max_beams)
