"""What two passes with different dropout say of the same pairs (R-Drop)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from catid2_jax.types import Scalar


def r_drop_loss(
    first: Float[Array, "B L n"],
    second: Float[Array, "B L n"],
    weights: Float[Array, " B"],
    scored: Bool[Array, "B L"] | None = None,
) -> Scalar:
    """R-Drop (Liang et al., 2021): sum_t (KL(p_t || q_t) + KL(q_t || p_t)) / 2, weighted mean.

    Args:
        first: logits of a pass, of which softmax makes p_t; -inf for a token that does not compete.
        second: logits of a pass with other dropout, of which it makes q_t.
        weights: weight of each query-document pair, not negative.
        scored: the positions that count; None for all.
    """
    log_p, log_q = (jax.nn.log_softmax(logits, axis=-1) for logits in (first, second))
    gap = jnp.where(first > -jnp.inf, log_p - log_q, 0.0)
    per_token = jnp.sum((jnp.exp(log_p) - jnp.exp(log_q)) * gap, axis=-1) / 2
    if scored is not None:
        per_token = jnp.where(scored, per_token, 0.0)
    return jnp.sum(weights * jnp.sum(per_token, axis=-1)) / jnp.maximum(jnp.sum(weights), 1e-9)
