"""Beam search over a trie of document IDs; it knows no model."""

from collections.abc import Callable
from typing import Any, TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from catid2_jax.decoding.trie import Trie
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
    """The documents found, best first.

    Attributes:
        documents: row of the table of document IDs; -1 where there is no result.
        scores: sum of the log-probabilities of the ID's codes; -inf where there is no result.
    """

    documents: Int[Array, "B M"]
    scores: Float[Array, "B M"]


def beam_search(
    step: StepFunction, cache: Any, trie: Trie, batch_size: int, beams: int
) -> SearchResult:
    """Finds documents whose IDs have high scores, one level of the trie per step.

    Level l has M_l beams and M_l C_l candidates, C_l being the largest branch, so that a step costs
    the same for any number of documents (STATIC, YouTube, 2026). M_{l+1} = min(beams, M_l C_l).
    With at least as many beams as documents the search is exhaustive. Of equal scores, the child of
    the better parent goes first, then the smaller code.

    Args:
        step: the model; see `StepFunction`.
        cache: the model's state before level 0.
        trie: the documents.
        batch_size: B.
        beams: the most to keep at each level; static.

    Returns:
        M_L results per query. If fewer documents were reached, or a document's score is -inf, the
        surplus is flagged.

    Raises:
        InputError: `beams` is below 1.
    """
    if beams < 1:
        raise InputError(f"beams is {beams}: expected at least 1")
    nodes = jnp.zeros((batch_size, 1), jnp.int32)
    scores = jnp.zeros((batch_size, 1), jnp.float32)
    codes = None
    for level in range(trie.levels):
        log_probabilities, cache = step(level, codes, cache)
        children, child_codes, valid = trie.children(level, nodes)
        gains = jnp.take_along_axis(log_probabilities, child_codes, axis=-1)
        candidates = jnp.where(valid, scores[:, :, None] + gains, -jnp.inf)
        count = candidates.shape[1] * candidates.shape[2]
        scores, chosen = jax.lax.top_k(candidates.reshape(batch_size, count), min(beams, count))
        nodes = jnp.take_along_axis(children.reshape(batch_size, count), chosen, axis=1)
        codes = jnp.take_along_axis(child_codes.reshape(batch_size, count), chosen, axis=1)
        cache = _reorder(cache, chosen // candidates.shape[2])
    found = scores > -jnp.inf
    return SearchResult(
        documents=jnp.where(found, trie.documents[nodes], -1),
        scores=jnp.where(found, scores, -jnp.inf),
    )


def _reorder(cache: Any, parents: Int[Array, "B M"]) -> Any:
    """Gives each beam its parent's part of the cache."""

    def gather(leaf: jax.Array) -> jax.Array:
        indices = parents.reshape(parents.shape + (1,) * (leaf.ndim - 2))
        return jnp.take_along_axis(leaf, indices, axis=1)

    return jax.tree.map(gather, cache)
