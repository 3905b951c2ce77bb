"""Unique document IDs: Sinkhorn reassignment, completed exactly (section 3.4).

Only documents that share their codes with another are reassigned; the others keep theirs. A level-l
code of a document is a node of a K-ary tree, and a node at level l has room for K^(L-1-l)
documents; at the last level, for one. Going down the levels, the documents to reassign of every
overfull node are assigned anew among the codes of their parent that have room. Log-domain
Sinkhorn, with room as the column mass, proposes: its column potentials are prices of the codes,
and a document asks for the code of least cost plus price, which is where the plan has most of it.
By duality the prices also bound from below what any assignment costs. At the last level a proposal
stands if all documents fit and the bound proves that no more than 1 % of the added error could be
saved; every other group, of at most K documents and K codes, is assigned exactly. A parent always
has room for what the level above gave it, so this ends with N distinct IDs whenever N <= K^L.

It takes the time of sorting N integers per level and of the costs [R, K] of the R documents that
collide, of which a bounded part is held at once.
"""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from catid2_jax.errors import InputError
from catid2_jax.ops.sinkhorn import sinkhorn

_CELLS_AT_ONCE = 1 << 21  # cells of a cost array: 8 MiB in float32, some times that in passing
_SAMPLE = 4096  # documents of a larger group that Sinkhorn sees; its prices hold for all
_TOLERANCE = 0.01  # of the least added error, that a proposal may cost more
_ITERATIONS_ABOVE = 10  # times as many above the last level, where nothing exact follows


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
    return float(np.mean(_sharing(codes) > 1))


def check_room(documents: int, levels: int, codebook_size: int) -> None:
    """Raises InputError if there are more documents than IDs, N > K^L."""
    if documents > codebook_size**levels:
        raise InputError(
            f"found {documents} documents, expected at most K^L = {codebook_size}^{levels} = "
            f"{codebook_size**levels}: raise rqvae.codebook_size or rqvae.levels"
        )


def resolve_collisions(
    latents: np.ndarray,
    codebooks: np.ndarray,
    codes: np.ndarray,
    config: CollisionConfig,
    taken: np.ndarray | None = None,
) -> np.ndarray:
    """Makes the codes of all documents distinct at little extra quantisation error.

    Args:
        latents: z, float [N, Z].
        codebooks: float [L, K, Z].
        codes: nearest codes, int [N, L].
        config: see `CollisionConfig`.
        taken: int [T, L], distinct IDs that no document may have.

    Returns:
        int32 [N, L], no two rows the same and none of them taken.

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
    # Those with an ID of their own come last and stay, as the taken IDs do.
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
    """How many of N rows of codes [N, L] are the same as each of them, itself included."""
    node = np.zeros(len(codes), np.int64)
    for column in codes.T:
        node, counts = _number(node * (int(codes.max()) + 1) + column)
    return counts[node]


def _number(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the distinct keys [N] from 0: the number of each key, and how often each is there."""
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
    """Gives `moving` other codes, in place, so that no node of this level is overfull."""
    codebook_size = codebooks.shape[1]
    parents, group, sizes = np.unique(parent[moving], return_inverse=True, return_counts=True)
    # Groups of like size come one after another, so that some of them fill an array well.
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
    """Rows of the array that holds a group for Sinkhorn: few distinct ones, few compilations."""
    powers = 4 ** np.arange(1, 32, dtype=np.int64)
    return np.minimum(powers[np.searchsorted(powers, sizes)], max(_SAMPLE, codebook_size))


def _slices(padded: np.ndarray, codebook_size: int) -> Iterator[tuple[int, int]]:
    """Ranges of groups of one padded size, as many as the bound on cells allows, in even parts."""
    runs = np.unique(padded, return_index=True, return_counts=True)
    for rows, first, groups in zip(*(run.tolist() for run in runs), strict=True):
        at_once = max(1, _CELLS_AT_ONCE // (rows * codebook_size))
        edges = np.linspace(first, first + groups, -(-groups // at_once) + 1).astype(int)
        yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def prefix_sum(codebooks: np.ndarray, codes: np.ndarray, level: int) -> np.ndarray:
    """Sum of the code vectors of the levels before `level`, [R, Z]."""
    vectors = [codebooks[i][codes[:, i]] for i in range(level)]
    return sum(vectors, np.zeros((len(codes), codebooks.shape[2]), codebooks.dtype))


def _squared_distances(residuals: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """float32 [R, K].

    Expanded, see `ops.similarity.squared_distance`, but in float64: then the cost of a document is
    the same, to the last bit of float32, whatever documents the product is computed with.
    """
    residuals, codebook = residuals.astype(np.float64), codebook.astype(np.float64)
    products = residuals @ codebook.T
    norms = np.sum(residuals**2, axis=1)[:, None] + np.sum(codebook**2, axis=1)[None, :]
    return np.maximum(norms - 2.0 * products, 0.0).astype(np.float32)


def requantize(
    latents: np.ndarray, codebooks: np.ndarray, codes: np.ndarray, rows: np.ndarray, level: int
) -> None:
    """Nearest codes from `level` on for documents whose earlier codes have changed."""
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
    """Codes [R] for the documents of some groups, within the groups' capacities.

    Args:
        residuals: [R, Z], the groups' documents one after another.
        sizes: [G] documents of each group, alike enough to be padded to the same size.
        codebook: [K, Z].
        capacity: [G, K] free places per code.
        room: of a node; 1 at the last level.
        config: see `CollisionConfig`.
    """
    rows = int(_padded(sizes, len(codebook))[0])
    starts = np.append(0, np.cumsum(sizes))
    slots = np.arange(rows)
    present = slots < sizes[:, None]
    # Of a group that does not fit, documents at even distances.
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
    """Sinkhorn's column potentials as prices [G, K] from 0 up; infinite where there is no room."""
    groups, _, codes = cost.shape
    padding = (0, (1 << (groups - 1).bit_length()) - groups)
    shares = (present / present.sum(axis=1, keepdims=True)).astype(np.float32)
    scale = np.maximum(np.einsum("grk,gr->g", cost, shares) / codes, 1e-12)
    # More places than the group has documents are all the same to it.
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
    """Sinkhorn's column potentials per group [G, K], each group's up to a constant.

    One row more takes up the places left free, at no cost.
    """

    def one(cost: jax.Array, row_mass: jax.Array, column_mass: jax.Array) -> jax.Array:
        slack = jnp.maximum(column_mass.sum() - row_mass.sum(), 0.0)
        extended = jnp.concatenate([cost, jnp.zeros((1, cost.shape[1]), cost.dtype)])
        masses = jnp.append(row_mass, slack)
        log_plan = sinkhorn(extended, masses, column_mass, epsilon, iterations)
        return epsilon * log_plan[0] + cost[0]  # the first row is there in every group

    return jax.vmap(one)(cost, row_mass, column_mass)


def _assign_exactly(
    cost: np.ndarray, present: np.ndarray, capacity: np.ndarray, prices: np.ndarray
) -> np.ndarray:
    """Distinct codes [G, R] per group, by the prices or by an exact assignment.

    Args:
        cost: [G, R, K].
        present: [G, R], false where a group has no document.
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
    # Weak duality: no assignment costs less than this one by more than the prices of free places.
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
    """Codes [R] within the capacities of one group, above the last level.

    Each document asks for the code of least cost plus price that has room; who would lose most by
    going elsewhere is served first, the others ask again.
    """
    codes = np.empty(len(residuals), np.int64)
    left = capacity.copy()
    waiting = np.arange(len(residuals))
    # Crowds of duplicates are what fills a node above the last level, and all of them ask alike.
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
    """The code [R] of least cost plus price, and how much more [R] the next one asks."""
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
