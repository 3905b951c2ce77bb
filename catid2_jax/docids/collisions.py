"""Unique document IDs: Sinkhorn reassignment, completed exactly (section 3.4).

A level-l code of a document is a node of a K-ary tree, and a node at level l has room for
K^(L-1-l) documents; at the last level, for one. Going down the levels, the documents of every
overfull node are assigned anew among the codes of their parent that have room. Log-domain
Sinkhorn, with room as the column mass, proposes; a proposal that leaves a code overfull is
completed exactly. A parent always has room for what the level above gave it, so this ends with N
distinct IDs whenever N <= K^L. Documents whose code is theirs alone are not touched.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from catid2_jax.errors import InputError
from catid2_jax.ops.sinkhorn import sinkhorn

_CELLS_AT_ONCE = 1 << 23  # cost-matrix cells per Sinkhorn call: 32 MiB in float32


@dataclasses.dataclass(frozen=True)
class CollisionConfig:
    """How Sinkhorn reassigns.

    Attributes:
        sinkhorn_epsilon: entropy weight, relative to the mean cost of a group; sibling code's.
        sinkhorn_iterations: rounds of scaling.
    """

    sinkhorn_epsilon: float = 0.003
    sinkhorn_iterations: int = 50

    def __post_init__(self) -> None:
        for name in ("sinkhorn_epsilon", "sinkhorn_iterations"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}: expected more than 0")


def collision_rate(codes: np.ndarray) -> float:
    """Share of the documents whose codes [N, L] another document has too."""
    _, inverse, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return float(np.mean(counts[inverse.ravel()] > 1))


def check_room(documents: int, levels: int, codes_per_level: int) -> None:
    """Raises InputError if there are more documents than IDs, N > K^L."""
    if documents > codes_per_level**levels:
        raise InputError(
            f"found {documents} documents, expected at most K^L = {codes_per_level}^{levels} = "
            f"{codes_per_level**levels}: raise rqvae.codes or rqvae.levels"
        )


def resolve_collisions(
    latents: np.ndarray, codebooks: np.ndarray, codes: np.ndarray, config: CollisionConfig
) -> np.ndarray:
    """Makes the codes of all documents distinct at little extra quantisation error.

    Args:
        latents: z, float [N, Z].
        codebooks: float [L, K, Z].
        codes: nearest codes, int [N, L].
        config: see `CollisionConfig`.

    Returns:
        int32 [N, L], no two rows the same.

    Raises:
        InputError: more documents than there are IDs, N > K^L.
    """
    documents, levels = codes.shape
    codes_per_level = codebooks.shape[1]
    check_room(documents, levels, codes_per_level)
    codes = np.array(codes, np.int32)
    parent = np.zeros(documents, np.int64)
    for level in range(levels):
        room = min(codes_per_level ** (levels - 1 - level), documents)
        _make_room(latents, codebooks, codes, parent, level, room, config)
        keys = parent * codes_per_level + codes[:, level]
        parent = np.unique(keys, return_inverse=True)[1].ravel()
    return codes


def _make_room(
    latents: np.ndarray,
    codebooks: np.ndarray,
    codes: np.ndarray,
    parent: np.ndarray,
    level: int,
    room: int,
    config: CollisionConfig,
) -> None:
    """Changes `codes` in place so that no node of this level holds more than `room` documents."""
    codes_per_level = codebooks.shape[1]
    node = parent * codes_per_level + codes[:, level]
    _, inverse, counts = np.unique(node, return_inverse=True, return_counts=True)
    moving = np.flatnonzero(counts[inverse.ravel()] > room)
    if moving.size == 0:
        return
    moving = moving[np.argsort(parent[moving], kind="stable")]
    group_parents, starts = np.unique(parent[moving], return_index=True)
    groups = np.split(moving, starts[1:])

    staying = np.isin(parent, group_parents)
    staying[moving] = False
    capacity = np.full((len(groups), codes_per_level), room, np.int64)
    rows = np.searchsorted(group_parents, parent[staying])
    np.subtract.at(capacity, (rows, codes[staying, level]), 1)

    residuals = latents[moving] - _prefix_sum(codebooks, codes[moving], level)
    cost = _squared_distances(residuals, codebooks[level])
    before = codes[moving, level].copy()
    offsets = np.append(starts, moving.size)
    for group, assigned in _assign_groups(cost, offsets, capacity, config):
        codes[groups[group], level] = assigned
    changed = moving[codes[moving, level] != before]
    _requantize(latents, codebooks, codes, changed, level + 1)


def _prefix_sum(codebooks: np.ndarray, codes: np.ndarray, level: int) -> np.ndarray:
    """Sum of the code vectors of the levels before `level`, [R, Z]."""
    vectors = [codebooks[i][codes[:, i]] for i in range(level)]
    return sum(vectors, np.zeros((len(codes), codebooks.shape[2]), codebooks.dtype))


def _squared_distances(residuals: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """[R, K]; in the expanded form, see `ops.similarity.squared_distance`."""
    norms = np.sum(residuals**2, axis=1)[:, None] + np.sum(codebook**2, axis=1)[None, :]
    return np.maximum(norms - 2.0 * residuals @ codebook.T, 0.0)


def _requantize(
    latents: np.ndarray, codebooks: np.ndarray, codes: np.ndarray, rows: np.ndarray, level: int
) -> None:
    """Nearest codes from `level` on for documents whose earlier codes have changed."""
    residuals = latents[rows] - _prefix_sum(codebooks, codes[rows], level)
    for i in range(level, len(codebooks)):
        codes[rows, i] = np.argmin(_squared_distances(residuals, codebooks[i]), axis=1)
        residuals = residuals - codebooks[i][codes[rows, i]]


def _assign_groups(
    cost: np.ndarray, offsets: np.ndarray, capacity: np.ndarray, config: CollisionConfig
) -> list[tuple[int, np.ndarray]]:
    """Codes for the documents of each group, within its capacities.

    Args:
        cost: [R, K], the groups' documents one after another.
        offsets: [G + 1], where each group starts.
        capacity: [G, K] free places per code.
        config: see `CollisionConfig`.
    """
    sizes = np.diff(offsets)
    padded = 1 << np.ceil(np.log2(sizes)).astype(np.int64)
    results = []
    for rows in np.unique(padded):
        members = np.flatnonzero(padded == rows)
        at_once = max(1, _CELLS_AT_ONCE // int(rows * cost.shape[1]))
        for chunk in np.split(members, range(at_once, len(members), at_once)):
            blocks = [cost[offsets[g] : offsets[g + 1]] for g in chunk]
            plans = _propose(blocks, capacity[chunk], int(rows), config)
            results += [
                (int(g), _complete(block, plan[: len(block)], capacity[g]))
                for g, block, plan in zip(chunk, blocks, plans, strict=True)
            ]
    return results


def _propose(
    blocks: list[np.ndarray], capacity: np.ndarray, rows: int, config: CollisionConfig
) -> np.ndarray:
    """Log transport plans [G, rows, K] of groups padded to `rows` documents."""
    groups = 1 << (len(blocks) - 1).bit_length()  # few distinct shapes, few compilations
    codes = capacity.shape[1]
    cost = np.zeros((groups, rows, codes), np.float32)
    row_mass = np.zeros((groups, rows), np.float32)
    column_mass = np.ones((groups, codes), np.float32)
    for i, block in enumerate(blocks):
        cost[i, : len(block)] = block / max(block.mean(), 1e-12)
        row_mass[i, : len(block)] = 1.0
        # More places than the group has documents are all the same to it.
        column_mass[i] = np.minimum(capacity[i], len(block))
    plans = _sinkhorn_with_slack(
        cost, row_mass, column_mass, config.sinkhorn_epsilon, config.sinkhorn_iterations
    )
    return np.asarray(plans)[: len(blocks)]


@functools.partial(jax.jit, static_argnames=("epsilon", "iterations"))
def _sinkhorn_with_slack(
    cost: jax.Array,
    row_mass: jax.Array,
    column_mass: jax.Array,
    epsilon: float,
    iterations: int,
) -> jax.Array:
    """Sinkhorn per group, with one row more that takes up the places left free, at no cost."""

    def one(cost: jax.Array, row_mass: jax.Array, column_mass: jax.Array) -> jax.Array:
        slack = jnp.maximum(column_mass.sum() - row_mass.sum(), 0.0)
        extended = jnp.concatenate([cost, jnp.zeros((1, cost.shape[1]), cost.dtype)])
        masses = jnp.append(row_mass, slack)
        return sinkhorn(extended, masses, column_mass, epsilon, iterations)[:-1]

    return jax.vmap(one)(cost, row_mass, column_mass)


def _complete(cost: np.ndarray, log_plan: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Codes [R] that respect the capacities: the plan's own choice, or an exact completion."""
    proposal = np.argmax(log_plan, axis=1)
    if np.all(np.bincount(proposal, minlength=len(capacity)) <= capacity):
        return proposal.astype(np.int32)
    if capacity.max() == 1:
        free = np.flatnonzero(capacity)
        rows, columns = linear_sum_assignment(cost[:, free])
        return free[columns[np.argsort(rows)]].astype(np.int32)
    # Above the last level: the surest documents choose first, each the cheapest code with room.
    assigned = np.empty(len(cost), np.int32)
    left = capacity.copy()
    for row in np.argsort(-log_plan.max(axis=1), kind="stable"):
        code = np.argmin(np.where(left > 0, cost[row], np.inf))
        assigned[row] = code
        left[code] -= 1
    return assigned
