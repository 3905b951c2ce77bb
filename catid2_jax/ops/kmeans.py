"""Seeded k-means (Lloyd's algorithm), plain and balanced, the same on any number of devices."""

import functools
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from catid2_jax.ops.mesh import map_blocks, replicate
from catid2_jax.ops.similarity import squared_distance
from catid2_jax.ops.sinkhorn import column_potentials, sinkhorn

_BLOCK = 4096  # points at a time; fixed, so that sums do not depend on the devices
_EPSILON = 0.1, 0.003  # entropy weight of the first and the last round, relative to the mean cost
_EVEN_EPSILON = 0.02  # of `even_clusters`
_SCALINGS = 10  # Sinkhorn's iterations per round, which goes on from the round before
_LAST_SCALINGS = 200  # those that the codes come from

Block: TypeAlias = tuple[jax.Array, jax.Array]
"""Points [B, Z] and their weights [B]."""


@functools.partial(jax.jit, static_argnames=("clusters", "iterations"))
def kmeans(
    points: Float[Array, "N Z"], clusters: int, key: jax.Array, iterations: int = 25
) -> Float[Array, "K Z"]:
    """Finds the centroids of `points`.

    The devices of the mesh share blocks of points, whose sums are added in the order of the blocks.

    Args:
        points: N points; with fewer than `clusters` distinct ones, some centroids coincide.
        clusters: K.
        key: random key of the k-means++ start (Arthur and Vassilvitskii, 2007).
        iterations: rounds of Lloyd's algorithm; a cluster left empty keeps its centroid.
    """
    blocks, weights = _blocks(points)

    def sums(block: Block, centroids: jax.Array) -> tuple[jax.Array, jax.Array]:
        points, _ = block
        return _sums(block, jnp.argmin(squared_distance(points, centroids), axis=1), clusters)

    def lloyd(_: jax.Array, centroids: jax.Array) -> jax.Array:
        return _means(map_blocks(sums, (blocks, weights), centroids), centroids)

    return jax.lax.fori_loop(0, iterations, lloyd, _plus_plus(points, clusters, key))


@functools.partial(jax.jit, static_argnames=("clusters", "iterations"))
def balanced_kmeans(
    points: Float[Array, "N Z"], clusters: int, key: jax.Array, iterations: int = 25
) -> tuple[Float[Array, "K Z"], Int[Array, " N"]]:
    """Finds centroids of about the same number of points each, and the points' codes.

    Every round of Lloyd's algorithm moves the points to the centroids by the plan of entropic
    transport in which all centroids have the same mass; the code of a point is the largest entry of
    its row. Balanced residual k-means is that of OneRec (Deng et al., 2025), with Sinkhorn's plan
    (Cuturi, 2013) in the place of its greedy one. The weight of the entropy falls from round to
    round. Equal points have equal codes, so that many copies of a point cannot be balanced.

    The costs [N, K] are in memory twice at most; all else is in blocks of points.

    Args:
        points: N points.
        clusters: K.
        key: random key of the start: centroids are points drawn evenly, all different if N >= K.
        iterations: rounds of Lloyd's algorithm; a cluster left empty keeps its centroid.

    Returns:
        (the centroids, the points' codes).
    """
    blocks = _blocks(points)

    def sums(block: tuple[Block, jax.Array], prices: jax.Array) -> tuple[jax.Array, jax.Array]:
        points, cost = block
        return _sums(points, _cheapest(cost, prices), clusters)

    def lloyd(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        centroids, prices = carry
        cost, prices = _transport(blocks, centroids, prices, i / iterations, _SCALINGS)
        return _means(map_blocks(sums, (blocks, cost), prices), centroids), prices

    order = jax.random.permutation(key, len(points))
    centroids = points[order[jnp.arange(clusters) % len(points)]]
    prices = jnp.zeros(clusters, points.dtype)
    centroids, prices = jax.lax.fori_loop(0, iterations, lloyd, (centroids, prices))
    cost, prices = _transport(blocks, centroids, prices, 1.0, _LAST_SCALINGS)
    codes = replicate(map_blocks(_cheapest, cost, prices)).reshape(-1)[: len(points)]
    return _means(map_blocks(sums, (blocks, cost), prices), centroids), codes


def even_clusters(
    points: Float[Array, "K Z"], clusters: int, iterations: int = 10
) -> Int[Array, " K"]:
    """Divides a few points into clusters of about the same size, within a larger computation.

    As `balanced_kmeans` at one weight of the entropy; it starts from points at even distances in
    their order, so that it needs no key.

    Args:
        points: K points, small enough for arrays of [K, G].
        clusters: G; K clusters if there are fewer points.
        iterations: rounds of Lloyd's algorithm.
    """
    count, groups = len(points), min(clusters, len(points))
    mass = jnp.full(groups, count / groups, points.dtype)

    def assign(centroids: jax.Array) -> jax.Array:
        cost = squared_distance(points, centroids)
        scaled = cost / jnp.maximum(jnp.mean(cost), 1e-30)
        plan = sinkhorn(scaled, jnp.ones(count, points.dtype), mass, _EVEN_EPSILON, 2 * _SCALINGS)
        return jnp.argmax(plan, axis=1)

    def lloyd(_: jax.Array, centroids: jax.Array) -> jax.Array:
        sums, sizes = _sums((points, jnp.ones(count, points.dtype)), assign(centroids), groups)
        means = sums / jnp.maximum(sizes, 1)[:, None]
        return jnp.where(sizes[:, None] > 0, means, centroids)

    start = points[jnp.arange(groups) * count // groups]
    return assign(jax.lax.fori_loop(0, iterations, lloyd, start))


def _transport(
    blocks: Block,
    centroids: jax.Array,
    prices: jax.Array,
    progress: jax.Array | float,
    scalings: int,
) -> tuple[jax.Array, jax.Array]:
    """Moves points to centroids of equal mass, `progress` being the share of the rounds done.

    Returns:
        (costs [G, B, K], prices [K]); a point's code is that of the least cost plus price.
    """

    def costs(block: Block, centroids: jax.Array) -> tuple[jax.Array, jax.Array]:
        points, weights = block
        cost = squared_distance(points, centroids)
        return cost, jnp.sum(cost * weights[:, None])

    weights, clusters = blocks[1], len(centroids)
    cost, totals = map_blocks(costs, blocks, centroids)
    count = jnp.sum(replicate(weights))
    first, last = _EPSILON
    epsilon = first * (last / first) ** progress * jnp.sum(replicate(totals)) / (count * clusters)
    epsilon = jnp.maximum(epsilon, 1e-30)  # all points may be equal
    mass = jnp.full(clusters, count / clusters)
    potentials = column_potentials(cost, weights, mass, epsilon, scalings, -prices / epsilon)
    return cost, epsilon * (jnp.max(potentials) - potentials)


def _cheapest(cost: jax.Array, prices: jax.Array) -> jax.Array:
    return jnp.argmin(cost + prices[None, :], axis=1)


def _blocks(points: jax.Array) -> Block:
    """Splits points into padded blocks [G, B, Z], with weights [G, B] that are 0 in the padding."""
    count, width = points.shape
    padding = -count % _BLOCK
    blocks = jnp.pad(points, ((0, padding), (0, 0))).reshape(-1, _BLOCK, width)
    weights = (jnp.arange(count + padding) < count).astype(points.dtype).reshape(-1, _BLOCK)
    return blocks, weights


def _sums(block: Block, codes: jax.Array, clusters: int) -> tuple[jax.Array, jax.Array]:
    """Sums the points of a block per code, [K, Z], and their number, [K]."""
    points, weights = block
    weighted = points * weights[:, None]
    return (
        jax.ops.segment_sum(weighted, codes, num_segments=clusters),
        jax.ops.segment_sum(weights, codes, num_segments=clusters),
    )


def _means(parts: tuple[jax.Array, jax.Array], centroids: jax.Array) -> jax.Array:
    """Computes new centroids of all blocks' sums; a cluster without points keeps the old one."""
    totals, sizes = (jnp.sum(replicate(part), axis=0) for part in parts)
    means = totals / jnp.maximum(sizes, 1)[:, None]
    return jnp.where(sizes[:, None] > 0, means, centroids)


def _plus_plus(points: jax.Array, clusters: int, key: jax.Array) -> jax.Array:
    """Draws starting centroids, each with probability ~ its squared distance from the others."""

    def draw(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        centroids, nearest = carry
        # The floor keeps a draw possible once every distinct point is taken.
        logits = jnp.log(jnp.maximum(nearest, 1e-30))
        point = points[jax.random.categorical(jax.random.fold_in(key, i), logits)]
        distance = jnp.sum(jnp.square(points - point[None, :]), axis=1)
        return centroids.at[i].set(point), jnp.minimum(nearest, distance)

    start = jnp.zeros((clusters, points.shape[1]), points.dtype)
    everywhere = jnp.full(len(points), jnp.finfo(points.dtype).max)
    return jax.lax.fori_loop(0, clusters, draw, (start, everywhere))[0]
