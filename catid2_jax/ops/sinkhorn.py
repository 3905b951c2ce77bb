"""Solves entropic optimal transport in log space (Cuturi, 2013)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from catid2_jax.ops.mesh import map_blocks, replicate
from catid2_jax.types import Scalar


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


def column_potentials(
    cost: Float[Array, "G R C"],
    row_mass: Float[Array, "G R"],
    column_mass: Float[Array, " C"],
    epsilon: Scalar | float,
    iterations: int,
    start: Float[Array, " C"],
) -> Float[Array, " C"]:
    """Returns the column potentials of `sinkhorn`'s plan for rows that come in G blocks.

    The log plan is -cost / epsilon plus a potential per row and these, so that the largest entry of
    a row is where -cost / epsilon + potential is largest. Beside `cost`, no more than a block is in
    memory at once; the devices of the mesh share the blocks.

    Args:
        cost: cost of moving a unit from each row to each column, finite.
        row_mass: mass of each row; 0 for padding.
        column_mass: mass of each column, more than 0, with the same sum as `row_mass`.
        epsilon: weight of the entropy, in the unit of the cost.
        iterations: rounds of row and column scaling.
        start: the potentials to start from; zeros are those of `sinkhorn`.
    """

    def column_sums(block: tuple[jax.Array, jax.Array], whole: tuple[jax.Array, Any]) -> Any:
        (cost, mass), (columns, epsilon) = block, whole
        scaled = -cost / epsilon
        rows = jnp.log(mass) - jax.nn.logsumexp(scaled + columns[None, :], axis=1)
        return jax.nn.logsumexp(scaled + rows[:, None], axis=0)

    def scale(_: jax.Array, columns: jax.Array) -> jax.Array:
        sums = replicate(map_blocks(column_sums, (cost, row_mass), (columns, epsilon)))
        return jnp.log(column_mass) - jax.nn.logsumexp(sums, axis=0)

    return jax.lax.fori_loop(0, iterations, scale, start)
