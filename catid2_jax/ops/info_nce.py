"""InfoNCE with arbitrary positive and negative masks, finite whatever the masks hold."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def masked_info_nce(
    logits: Float[Array, "B B"], positives: Bool[Array, "B B"], negatives: Bool[Array, "B B"]
) -> Float[Array, ""]:
    """Mean over anchors of the mean over their positives of -log p(positive).

    The denominator of a positive holds itself and the anchor's negatives (van den Oord et al.
    2018; several positives averaged outside the logarithm, Khosla et al. 2020). With N the
    log-sum-exp of the negatives, -log(exp(s) / (exp(s) + exp(N))) = softplus(N - s).

    Args:
        logits: similarity / temperature; row = anchor, column = candidate.
        positives: True where the column is a positive of the row.
        negatives: True where it is a negative.

    Returns:
        The loss in nats. Anchors without a positive or without a negative are dropped; with
        none left the loss and its gradient are 0.
    """
    anchors = positives.any(axis=1) & negatives.any(axis=1)
    # Rows without a negative get one at logit 0, so that no -inf enters the gradient.
    negatives = negatives | ~anchors[:, None]
    negative_mass = jax.nn.logsumexp(logits, axis=1, where=negatives)
    per_pair = jax.nn.softplus(negative_mass[:, None] - logits)
    count = jnp.maximum(jnp.sum(positives, axis=1), 1)
    per_anchor = jnp.sum(per_pair, axis=1, where=positives) / count
    return jnp.sum(per_anchor, where=anchors) / jnp.maximum(jnp.sum(anchors), 1)
