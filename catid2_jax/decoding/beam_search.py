"""Beam search over a trie of document IDs, which says whether its results are exact.

It knows no model: a step function gives the log-probabilities of the next code. A log-probability
is at most 0, so a prefix's score is an upper bound on the scores of the documents beneath it. The
search keeps the best score that it pruned; results at least as good as that are proven, for the
scores as they were computed: the same model may round otherwise in batches of another size.
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

The log-probabilities [B, M, K] are of the codes of `level`. There is one beam at level 0. Every
leaf of the cache starts with [B, M]; the search reorders the leaves as it does the beams.
"""


@flax.struct.dataclass
class SearchResult:
    """The k documents found per query, best first.

    Attributes:
        documents: row of the table of document IDs; -1 where there is no result.
        scores: sum of the log-probabilities of the ID's codes; -inf where there is no result.
        bound: no document that the search did not reach has a higher score; -inf if it reached all.
        exact: whether no document outside the k can have a higher score than one of them. Documents
            of equal scores at the end of the k are interchangeable.
    """

    documents: Int[Array | np.ndarray, "B k"]
    scores: Float[Array | np.ndarray, "B k"]
    bound: Float[Array | np.ndarray, " B"]
    exact: Bool[Array | np.ndarray, " B"]


@flax.struct.dataclass
class Prefixes:
    """The prefixes kept per query, best first; each leads to a document that may be found.

    Attributes:
        nodes: of the trie, at the level that is the prefixes' length.
        scores: sum of the log-probabilities of the codes; -inf where there is no prefix.
        bound: no prefix that was not kept, and nothing beneath one, has a higher score.
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

    With at least as many beams as documents the search is exhaustive. With a mask there are k
    results where k documents are allowed: a beam leads to an allowed document at least, and beams
    are pruned only where `beams` others are kept.

    Args:
        step: the model; see `StepFunction`.
        cache: the model's state before level 0.
        trie: the documents.
        batch_size: B.
        beams: see `search_prefixes`; static.
        k: results per query; static.
        mask: see `search_prefixes`.
        renormalize: see `search_prefixes`; static.

    Returns:
        k results per query. If there are fewer documents, or a document's score is -inf, the
        surplus is flagged.

    Raises:
        InputError: `beams` is below 1, `k` is not in 1..beams, or the mask is not of this trie.
    """
    if not 1 <= k <= max(beams, 1):
        raise InputError(f"k is {k}: expected 1 to beams = {beams}")
    found = search_prefixes(step, cache, trie, batch_size, beams, trie.levels, mask, renormalize)
    missing = ((0, 0), (0, max(k - found.scores.shape[1], 0)))
    scores = jnp.pad(found.scores, missing, constant_values=-jnp.inf)[:, :k]
    leaves = jnp.pad(found.nodes, missing)[:, :k]
    return SearchResult(
        documents=jnp.where(scores > -jnp.inf, trie.documents[leaves], -1),
        # A score that is no number proves nothing and is no result.
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

    Level l has M_l beams and M_l C_l candidates, C_l being the largest branch, so that a step costs
    the same for any number of documents (STATIC, YouTube, 2026). M_{l+1} = min(beams, M_l C_l). Of
    equal scores, the child of the better parent goes first, then the smaller code.

    Args:
        step: the model; see `StepFunction`.
        cache: the model's state before level 0.
        trie: the documents.
        batch_size: B.
        beams: the most to keep at each level; static.
        depth: codes of a prefix; static.
        mask: from `Trie.mask`: the documents to choose from; None for all. It changes no score.
        renormalize: scores are of a softmax over each node's children; static.

    Returns:
        At most `beams` prefixes per query.

    Raises:
        InputError: `beams` is below 1, `depth` not in 1..L, or the mask is not of this trie.
    """
    if beams < 1:
        raise InputError(f"beams is {beams}: expected at least 1")
    if not 1 <= depth <= trie.levels:
        raise InputError(f"depth is {depth}: expected 1 to {trie.levels}, the length of an ID")
    if mask is not None:
        _check_mask(mask, trie, batch_size)
    nodes = jnp.zeros((batch_size, 1), jnp.int32)
    scores = jnp.zeros((batch_size, 1), jnp.float32)
    bound = jnp.full(batch_size, -jnp.inf)
    codes = None
    for level in range(depth):
        log_probabilities, cache = step(level, codes, cache)
        children, child_codes, valid = trie.children(level, nodes)
        gains = _gains(log_probabilities, child_codes, valid, trie, renormalize)
        if mask is not None:
            valid &= _look_up(mask[level], children)
        candidates = jnp.where(valid, scores[:, :, None] + gains, -jnp.inf)
        scores, chosen, pruned = _best(candidates.reshape(batch_size, -1), beams)
        bound = jnp.maximum(bound, pruned)
        nodes, codes = (
            jnp.take_along_axis(array.reshape(batch_size, -1), chosen, axis=1)
            for array in (children, child_codes)
        )
        # A beam that has ended has no code; whatever the model makes of this one is not used.
        codes = jnp.minimum(codes, trie.codebook_size - 1)
        cache = _reorder(cache, chosen // candidates.shape[2])
    return Prefixes(nodes, scores, bound)


def _check_mask(mask: NodeMask, trie: Trie, batch_size: int) -> None:
    """Raises InputError where another trie's mask would be read beyond its end in silence."""
    found = [level.shape for level in mask]
    capacities = [len(codes) for codes in trie.codes]
    expected = ([(n,) for n in capacities], [(batch_size, n) for n in capacities])
    if found not in expected:
        raise InputError(f"mask: found shapes {found}, expected {expected[0]} or {expected[1]}")


def _gains(
    log_probabilities: Float[Array, "B M K"],
    codes: Int[Array, "B M C"],
    valid: Bool[Array, "B M C"],
    trie: Trie,
    renormalize: bool,
) -> Float[Array, "B M C"]:
    """What each child adds to its parent's score; of no meaning where it is not valid."""
    if trie.has_ends:
        log_probabilities = jnp.pad(log_probabilities, ((0, 0), (0, 0), (0, 1)))
    gains = jnp.take_along_axis(log_probabilities, codes, axis=-1)
    if renormalize:
        coded = valid & (codes < trie.codebook_size)
        total = jax.nn.logsumexp(gains, axis=-1, keepdims=True, where=coded)
        # A total of -inf: nothing to normalise, and -inf - -inf would be no number.
        gains -= jnp.where(coded & (total > -jnp.inf), total, 0.0)
    # Rounding may lift the log-probability of a near certainty above 0, and then a document's
    # score above its prefix's.
    return jnp.minimum(gains, 0.0)


def _best(
    candidates: Float[Array, "B n"], beams: int
) -> tuple[Float[Array, "B W"], Int[Array, "B W"], Float[Array, " B"]]:
    """The best candidates, at most `beams`, where they were, and the best of the others."""
    count = candidates.shape[1]
    width = min(beams, count)
    # Without the barrier XLA merges the slices below into the top-k, no longer sees one and sorts
    # all candidates instead. One for both would end XLA where the devices share the candidates.
    scores, chosen = map(
        jax.lax.optimization_barrier, jax.lax.top_k(candidates, min(width + 1, count))
    )
    pruned = jnp.max(scores[:, width:], axis=1, initial=-jnp.inf)
    return scores[:, :width], chosen[:, :width], pruned


def _look_up(mask: Bool[Array, "*batch E"], nodes: Int[Array, "B M C"]) -> Bool[Array, "B M C"]:
    """The mask of one level at the nodes it is asked for."""
    if mask.ndim == 1:
        return mask[nodes]
    return jnp.take_along_axis(mask, nodes.reshape(len(nodes), -1), axis=1).reshape(nodes.shape)


def _reorder(cache: Any, parents: Int[Array, "B M"]) -> Any:
    """Gives each beam its parent's part of the cache."""

    def gather(leaf: jax.Array) -> jax.Array:
        if leaf.shape[1] == 1:  # all have the one parent
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
    """Searches for all queries, and with twice the beams again where the result is not proven.

    A width costs a compilation. The queries that need it are brought together from all batches.

    Args:
        search: (rows of `batch_size` queries, beams) -> their results. The last batch is filled
            up with rows that are in it already.
        queries: how many there are.
        batch_size: queries per call.
        beams: the first width.
        max_beams: the budget; the last width is at most this. `beams` for a single search.

    Returns:
        The results of all queries in NumPy arrays; `exact` says which are proven.

    Raises:
        InputError: `queries` or `batch_size` is below 1, or `max_beams` below `beams`.
    """
    if queries < 1 or batch_size < 1:
        raise InputError(
            f"found {queries} queries in batches of {batch_size}: expected at least 1 of both"
        )
    if max_beams < beams:
        raise InputError(f"max_beams is {max_beams}: expected at least beams = {beams}")
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
