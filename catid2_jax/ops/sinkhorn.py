"""Solves entropic optimal transport in log space (Cuturi, 2013)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def sinkhorn(
    cost: Float[Array, "R C"],
    row_mass: Float[Array, " R"],
    column_mass: Float[Array, " C"],
    epsilon: float,
    iterations: int,
) -> Float[Array, "R C"]:
    """Returns the log of the plan that moves `row_mass` to `column_mass` at least cost.

    What is least is the cost of all moves minus `epsilon` times the plan's entropy. Potentials are
    updated as log-sum-exps, so that a small epsilon neither overflows nor underflows: at epsilon
    0.003, exp(-cost / epsilon) leaves float32 at a cost of 0.3.

    Args:
        cost: cost of moving a unit from each row to each column, finite.
        row_mass: mass of each row, not negative; a row of mass 0 takes no part.
        column_mass: mass of each column, not negative, with the same sum as `row_mass`; a column of
            mass 0 takes no part.
        epsilon: weight of the entropy, in the unit of the cost.
        iterations: rounds of row and column scaling; the last makes the columns exact.

    Returns:
        The log plan, -inf where a mass is 0.
    """
    scaled = -cost / epsilon
    log_rows, log_columns = jnp.log(row_mass), jnp.log(column_mass)

    def scale(_: jax.Array, potentials: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        _, columns = potentials
        rows = log_rows - jax.nn.logsumexp(scaled + columns[None, :], axis=1)
        columns = log_columns - jax.nn.logsumexp(scaled + rows[:, None], axis=0)
        return rows, columns

    start = (jnp.zeros_like(log_rows), jnp.where(column_mass > 0, 0.0, -jnp.inf))
    rows, columns = jax.lax.fori_loop(0, iterations, scale, start)
    return scaled + rows[:, None] + columns[None, :]
