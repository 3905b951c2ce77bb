"""Cosine similarity and Euclidean distance, each with a gradient that is finite everywhere."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_TINY = 1e-12  # keeps the square root's gradient finite at zero; far below any squared norm in use


def normalize(x: Float[Array, "*B D"], floor: float = 0.0) -> Float[Array, "*B D"]:
    """Scales each row to unit Euclidean norm; a zero row stays zero.

    Args:
        x: the rows.
        floor: share of the root mean square of all rows' norms below which a row is divided by that
            share instead of its own norm: the gradient of a nearly zero row is else as large as the
            row is small.
    """
    squares = jnp.sum(x * x, axis=-1, keepdims=True)
    least = jnp.maximum(floor**2 * jax.lax.stop_gradient(jnp.mean(squares)), _TINY)
    return x / jnp.sqrt(jnp.maximum(squares, least if floor else _TINY))


def cosine_similarity(x: Float[Array, "A D"], y: Float[Array, "B D"]) -> Float[Array, "A B"]:
    """Returns the cosine of every row of `x` with every row of `y`; 0 where either is zero."""
    return normalize(x) @ normalize(y).T


def squared_distance(x: Float[Array, "A D"], y: Float[Array, "B D"]) -> Float[Array, "A B"]:
    """Returns the squared distance of every row of `x` to every row of `y`, never below zero.

    Expanded to |x|^2 - 2xy + |y|^2, it takes one matrix product instead of an [A, B, D] array.
    """
    x_norm = jnp.sum(x * x, axis=-1)[:, None]
    y_norm = jnp.sum(y * y, axis=-1)[None, :]
    return jnp.maximum(x_norm - 2.0 * (x @ y.T) + y_norm, 0.0)


def distance(x: Float[Array, "A D"], y: Float[Array, "B D"]) -> Float[Array, "A B"]:
    """Returns the distance of every row of `x` to every row of `y`; gradient 0 where they meet."""
    return jnp.sqrt(jnp.maximum(squared_distance(x, y), _TINY))
