"""Unique document IDs: Sinkhorn reassignment, completed exactly (section 3.4).

All IDs have L codes. Only documents that share their codes with another are reassigned; the others
keep theirs. The first l + 1 codes of a document are a node of level l of a K-ary tree, whose
capacity is K^(L-1-l) documents; one at the last level. Going down the levels, the colliding
documents of every overfull node are reassigned among the codes of its parent that have capacity
left. Log-domain Sinkhorn, with the capacities as column mass, proposes an assignment: its column
potentials are prices of the codes, and each document gets the code of least cost plus price, which
has most of the document's mass in the plan. By duality the prices also give a lower bound on the
cost of any assignment. At the last level a proposal is accepted if all documents fit and the bound
proves that at most 1 % of the added error could be saved; every other group, of at most K documents
and K codes, is assigned exactly. The level above never assigns more documents to a node than fit
below it, so the result is N distinct IDs whenever N <= K^L.

The time is that of sorting N integers per level and of computing the costs [R, K] of the R
colliding documents; only a bounded part of the costs is in memory at once.
"""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from catid2_jax.constraints import PositiveFloat, PositiveInt, check_fields
from catid2_jax.errors import InputError
from catid2_jax.ops.sinkhorn import sinkhorn

_CELLS_AT_ONCE = 1 << 21  # cells of a cost array: 8 MiB in float32, a few times that temporarily
_SAMPLE = 4096  # documents that Sinkhorn sees of a larger group; all of it gets the prices
_TOLERANCE = 0.01  # excess cost of an accepted proposal, as a share of the least added error
_ITERATIONS_ABOVE = 10  # factor on iterations above the last level, where nothing exact follows


@dataclasses.dataclass(frozen=True)
class CollisionConfig:
    """Settings of the Sinkhorn reassignment.

    Attributes:
        sinkhorn_epsilon: entropy weight, relative to the mean cost of a group; the default is that
            of public RQ-VAE implementations.
        sinkhorn_iterations: number of scaling iterations.
    """

    sinkhorn_epsilon: PositiveFloat = 0.003
    sinkhorn_iterations: PositiveInt = 50

    def __post_init__(self) -> None:
        check_fields(self)


def collision_rate(codes: np.ndarray) -> float:
    """Computes the share of documents whose codes [N, L] are those of another document too."""
    return float(np.mean(_sharing(codes) > 1))


def check_room(documents: int, levels: int, codebook_size: int) -> None:
    """Raises InputError if there are more documents than IDs, N > K^L."""
    if documents > codebook_size**levels:
        most = f"K^L = {codebook_size}^{levels} = {codebook_size**levels}"
        raise InputError(
            "", f"{documents} documents", f"at most {most}: raise codebook_size or levels"
        )


def resolve_collisions(
    latents: np.ndarray,
    codebooks: np.ndarray,
    codes: np.ndarray,
    config: CollisionConfig,
    taken: np.ndarray | None = None,
) -> np.ndarray:
    """Makes the codes of all documents distinct, at little extra quantisation error.

    Args:
        latents: z, float [N, Z].
        codebooks: float [L, K, Z].
        codes: nearest codes, int [N, L].
        config: settings of Sinkhorn.
        taken: int [T, L], distinct IDs that no document may get.

    Returns:
        int32 [N, L], distinct rows, none of which is taken.

    Raises:
        InputError: more documents than there are IDs, N + T > K^L.
    """
    documents, levels = codes.shape
    codebook_size = codebooks.shape[1]
    taken = np.empty((0, levels), np.int32) if taken is None else taken
    check_room(documents + len(taken), levels, codebook_size)
    everyone = np.concatenate([codes, taken], dtype=np.int32)
    colliding = _sharing(everyone)[:documents] > 1
    if not colliding.any():
        return everyone[:documents]
    # Documents with an ID of their own and the taken IDs come last and stay.
    order = np.append(np.argsort(~colliding, kind="stable"), np.arange(documents, len(everyone)))
    everyone, latents = everyone[order], latents[colliding]
    parent = np.zeros(len(everyone), np.int64)
    for level in range(levels):
        room = min(codebook_size ** (levels - 1 - level), len(everyone))
        node, counts = _number(parent * codebook_size + everyone[:, level])
        moving = np.flatnonzero(counts[node[: len(latents)]] > room)
        if moving.size:
            _make_room(latents, codebooks, everyone, parent, moving, level, room, config)
            node, _ = _number(parent * codebook_size + everyone[:, level])
        parent = node
    unique = np.empty_like(everyone)
    unique[order] = everyone
    return unique[:documents]


def _sharing(codes: np.ndarray) -> np.ndarray:
    """Counts, for each row of codes [N, L], the rows that equal it, itself included."""
    node = np.zeros(len(codes), np.int64)
    for column in codes.T:
        node, counts = _number(node * (int(codes.max()) + 1) + column)
    return counts[node]


def _number(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the distinct keys of [N] from 0.

    Returns:
        (the number of each key [N], the count of each number).
    """
    _, numbers, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return numbers, counts


def _make_room(
    latents: np.ndarray,
    codebooks: np.ndarray,
    codes: np.ndarray,
    parent: np.ndarray,
    moving: np.ndarray,
    level: int,
    room: int,
    config: CollisionConfig,
) -> None:
    """Reassigns the documents `moving`, in place, so that no node of this level is overfull."""
    codebook_size = codebooks.shape[1]
    parents, group, sizes = np.unique(parent[moving], return_inverse=True, return_counts=True)
    # Groups of similar size stand side by side, so that arrays of them need little padding.
    padded = _padded(sizes, codebook_size)
    order = np.argsort(padded, kind="stable")
    place = np.argsort(order)
    moving = moving[np.argsort(place[group], kind="stable")]
    offsets = np.append(0, np.cumsum(sizes[order]))

    nearby = np.searchsorted(parents, parent).clip(max=len(parents) - 1)
    is_staying = parents[nearby] == parent
    is_staying[moving] = False
    staying = np.flatnonzero(is_staying)
    staying = staying[np.argsort(place[nearby[staying]], kind="stable")]
    home = place[nearby[staying]]

    before = codes[moving, level]
    for first, last in _slices(padded[order], codebook_size):
        rows = moving[offsets[first] : offsets[last]]
        held = slice(*np.searchsorted(home, (first, last)))
        cells = (home[held] - first) * codebook_size + codes[staying[held], level]
        used = np.bincount(cells, minlength=(last - first) * codebook_size)
        capacity = room - used.reshape(last - first, codebook_size)
        residuals = latents[rows] - prefix_sum(codebooks, codes[rows], level)
        codes[rows, level] = _assign(
            residuals, np.diff(offsets[first : last + 1]), codebooks[level], capacity, room, config
        )
    changed = moving[codes[moving, level] != before]
    requantize(latents, codebooks, codes, changed, level + 1)


def _padded(sizes: np.ndarray, codebook_size: int) -> np.ndarray:
    """Rounds the sizes of groups up to few distinct ones, each of which is compiled for."""
    powers = 4 ** np.arange(1, 32, dtype=np.int64)
    return np.minimum(powers[np.searchsorted(powers, sizes)], max(_SAMPLE, codebook_size))


def _slices(padded: np.ndarray, codebook_size: int) -> Iterator[tuple[int, int]]:
    """Yields even ranges of groups of one padded size, each within the bound on cells."""
    runs = np.unique(padded, return_index=True, return_counts=True)
    for rows, first, groups in zip(*(run.tolist() for run in runs), strict=True):
        at_once = max(1, _CELLS_AT_ONCE // (rows * codebook_size))
        edges = np.linspace(first, first + groups, -(-groups // at_once) + 1).astype(int)
        yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def prefix_sum(codebooks: np.ndarray, codes: np.ndarray, level: int) -> np.ndarray:
    """Sums the code vectors of the levels before `level`, [R, Z]."""
    vectors = [codebooks[i][codes[:, i]] for i in range(level)]
    return sum(vectors, np.zeros((len(codes), codebooks.shape[2]), codebooks.dtype))


def _squared_distances(residuals: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Computes squared distances, float32 [R, K].

    The square is expanded, as in `ops.similarity.squared_distance`, but in float64: so the cost of
    a document is the same to the last bit of float32, whatever other documents are in the product.
    """
    residuals, codebook = residuals.astype(np.float64), codebook.astype(np.float64)
    products = residuals @ codebook.T
    norms = np.sum(residuals**2, axis=1)[:, None] + np.sum(codebook**2, axis=1)[None, :]
    return np.maximum(norms - 2.0 * products, 0.0).astype(np.float32)


def requantize(
    latents: np.ndarray, codebooks: np.ndarray, codes: np.ndarray, rows: np.ndarray, level: int
) -> None:
    """Replaces the codes from `level` on by the nearest, in place, where earlier ones changed."""
    at_once = max(1, _CELLS_AT_ONCE // codebooks.shape[1])
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        residuals = latents[part] - prefix_sum(codebooks, codes[part], level)
        for i in range(level, len(codebooks)):
            codes[part, i] = np.argmin(_squared_distances(residuals, codebooks[i]), axis=1)
            residuals = residuals - codebooks[i][codes[part, i]]


def _assign(
    residuals: np.ndarray,
    sizes: np.ndarray,
    codebook: np.ndarray,
    capacity: np.ndarray,
    room: int,
    config: CollisionConfig,
) -> np.ndarray:
    """Assigns codes [R] to the documents of some groups, within the groups' capacities.

    Args:
        residuals: [R, Z], the documents of the groups, group by group.
        sizes: [G], number of documents per group; all are padded to the same size.
        codebook: [K, Z].
        capacity: [G, K], number of documents that each code can still take.
        room: capacity of an empty node; 1 at the last level.
        config: settings of Sinkhorn.
    """
    rows = int(_padded(sizes, len(codebook))[0])
    starts = np.append(0, np.cumsum(sizes))
    slots = np.arange(rows)
    present = slots < sizes[:, None]
    # A group that does not fit is represented by documents at even distances.
    sample = slots * sizes[:, None] // rows
    members = np.where(sizes[:, None] > rows, sample, np.where(present, slots, 0))
    cost = _squared_distances(residuals[(starts[:-1, None] + members).ravel()], codebook)
    cost = cost.reshape(len(sizes), rows, len(codebook))
    iterations = config.sinkhorn_iterations * (1 if room == 1 else _ITERATIONS_ABOVE)
    prices = _prices(cost, present, sizes, capacity, config.sinkhorn_epsilon, iterations)
    if room == 1:
        return _assign_exactly(cost, present, capacity, prices)[present]
    groups = zip(np.split(residuals, starts[1:-1]), prices, capacity, strict=True)
    return np.concatenate([_fill(group, codebook, *rest) for group, *rest in groups])


def _prices(
    cost: np.ndarray,
    present: np.ndarray,
    sizes: np.ndarray,
    capacity: np.ndarray,
    epsilon: float,
    iterations: int,
) -> np.ndarray:
    """Computes prices [G, K] from Sinkhorn's column potentials; the least price of a group is 0.

    A code without capacity has an infinite price.
    """
    groups, _, codes = cost.shape
    padding = (0, (1 << (groups - 1).bit_length()) - groups)
    shares = (present / present.sum(axis=1, keepdims=True)).astype(np.float32)
    scale = np.maximum(np.einsum("grk,gr->g", cost, shares) / codes, 1e-12)
    # Capacity beyond the number of the group's documents makes no difference.
    column_mass = np.minimum(capacity, sizes[:, None]).astype(np.float32)
    potentials = _potentials(
        np.pad(cost / scale[:, None, None], (padding, (0, 0), (0, 0))),
        np.pad(shares * sizes[:, None], (padding, (0, 0))),
        np.pad(column_mass, (padding, (0, 0)), constant_values=1),
        epsilon,
        iterations,
    )
    prices = np.where(capacity > 0, -np.asarray(potentials)[:groups], np.inf)
    return (prices - prices.min(axis=1, keepdims=True)) * scale[:, None]


@functools.partial(jax.jit, static_argnames=("epsilon", "iterations"))
def _potentials(
    cost: jax.Array,
    row_mass: jax.Array,
    column_mass: jax.Array,
    epsilon: float,
    iterations: int,
) -> jax.Array:
    """Computes Sinkhorn's column potentials [G, K], up to a constant per group.

    An additional row takes up the unused capacity at no cost.
    """

    def one(cost: jax.Array, row_mass: jax.Array, column_mass: jax.Array) -> jax.Array:
        slack = jnp.maximum(column_mass.sum() - row_mass.sum(), 0.0)
        extended = jnp.concatenate([cost, jnp.zeros((1, cost.shape[1]), cost.dtype)])
        masses = jnp.append(row_mass, slack)
        log_plan = sinkhorn(extended, masses, column_mass, epsilon, iterations)
        return epsilon * log_plan[0] + cost[0]  # every group has a first row

    return jax.vmap(one)(cost, row_mass, column_mass)


def _assign_exactly(
    cost: np.ndarray, present: np.ndarray, capacity: np.ndarray, prices: np.ndarray
) -> np.ndarray:
    """Assigns codes [G, R], distinct within a group, by the prices or by an exact assignment.

    Args:
        cost: [G, R, K].
        present: [G, R], false in the padding of a smaller group.
        capacity: [G, K], 0 or 1.
        prices: [G, K].
    """
    proposal = np.argmin(cost + prices[:, None, :], axis=2)
    cells = proposal + np.arange(len(cost))[:, None] * cost.shape[2]
    used = np.bincount(cells[present], minlength=capacity.size).reshape(capacity.shape)
    fits = np.all(used <= capacity, axis=1)
    chosen = np.take_along_axis(cost, proposal[:, :, None], axis=2)[:, :, 0]
    nearest = np.where(capacity[:, None, :] > 0, cost, np.inf).min(axis=2)
    added = np.sum(np.where(present, chosen - nearest, 0.0), axis=1)
    # Weak duality: no assignment saves more than the sum of the prices of unused codes.
    gap = np.sum(np.where(capacity > used, prices, 0.0), axis=1)
    proven = fits & (gap <= _TOLERANCE * (added - gap))
    for group in np.flatnonzero(~proven):
        free = np.flatnonzero(capacity[group])
        rows = np.flatnonzero(present[group])
        _, columns = linear_sum_assignment(cost[group, rows][:, free])
        proposal[group, rows] = free[columns]
    return proposal


def _fill(
    residuals: np.ndarray, codebook: np.ndarray, prices: np.ndarray, capacity: np.ndarray
) -> np.ndarray:
    """Assigns codes [R] within the capacities of one group, above the last level.

    Each document asks for the code of least cost plus price among those with capacity left. A code
    serves first the documents that would lose most by their second choice; the rest ask again.
    """
    codes = np.empty(len(residuals), np.int64)
    left = capacity.copy()
    waiting = np.arange(len(residuals))
    # Above the last level mostly duplicates fill a node, and equal documents choose alike.
    distinct, kind = np.unique(residuals, axis=0, return_inverse=True)
    while waiting.size:
        kinds, row = np.unique(kind[waiting], return_inverse=True)
        open_prices = np.where(left > 0, prices, np.inf)
        choice, regret = (x[row] for x in _choose(distinct[kinds], codebook, open_prices))
        order = np.lexsort((-regret, choice))
        queue = choice[order]
        served = order[np.arange(len(queue)) - np.searchsorted(queue, queue) < left[queue]]
        codes[waiting[served]] = choice[served]
        left -= np.bincount(choice[served], minlength=len(left))
        waiting = np.delete(waiting, served)
    return codes


def _choose(
    residuals: np.ndarray, codebook: np.ndarray, prices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Finds each document's code of least cost plus price, and its regret.

    Returns:
        (codes [R], how much more the second-best code costs [R]).
    """
    at_once = max(1, _CELLS_AT_ONCE // len(codebook))
    choices, regrets = [], []
    for start in range(0, len(residuals), at_once):
        offers = _squared_distances(residuals[start : start + at_once], codebook) + prices
        choice = np.argmin(offers, axis=1)[:, None]
        best = np.take_along_axis(offers, choice, axis=1)
        np.put_along_axis(offers, choice, np.inf, axis=1)
        choices.append(choice[:, 0])
        regrets.append(offers.min(axis=1) - best[:, 0])
    return np.concatenate(choices), np.concatenate(regrets)
