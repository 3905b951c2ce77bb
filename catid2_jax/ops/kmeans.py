"""Seeded k-means (Lloyd's algorithm from a k-means++ start), the same on any number of devices."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from catid2_jax.ops.mesh import map_blocks, replicate
from catid2_jax.ops.similarity import squared_distance

_BLOCK = 4096  # points at a time; fixed, so that sums do not depend on the devices


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
    count, width = points.shape
    padding = -count % _BLOCK
    blocks = jnp.pad(points, ((0, padding), (0, 0))).reshape(-1, _BLOCK, width)
    weights = (jnp.arange(count + padding) < count).astype(points.dtype).reshape(-1, _BLOCK)

    def sums(
        block: tuple[jax.Array, jax.Array], centroids: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        points, weights = block
        nearest = jnp.argmin(squared_distance(points, centroids), axis=1)
        weighted = points * weights[:, None]
        return (
            jax.ops.segment_sum(weighted, nearest, num_segments=clusters),
            jax.ops.segment_sum(weights, nearest, num_segments=clusters),
        )

    def lloyd(_: jax.Array, centroids: jax.Array) -> jax.Array:
        totals, sizes = (
            jnp.sum(replicate(part), axis=0)
            for part in map_blocks(sums, (blocks, weights), centroids)
        )
        means = totals / jnp.maximum(sizes, 1)[:, None]
        return jnp.where(sizes[:, None] > 0, means, centroids)

    return jax.lax.fori_loop(0, iterations, lloyd, _plus_plus(points, clusters, key))


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
