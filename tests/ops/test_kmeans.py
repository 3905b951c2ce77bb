import jax
import jax.numpy as jnp
import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus

from catid2_jax.ops.kmeans import kmeans


def inertia(points, centroids):
    return ((points[:, None] - centroids[None]) ** 2).sum(axis=2).min(axis=1).sum()


def test_finds_clusters_as_well_as_scikit_learn():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(12, 4)) * 4
    points = (centres[generator.integers(12, size=600)] + generator.normal(size=(600, 4))).astype(
        np.float32
    )
    ours, theirs = [], []
    for seed in range(15):
        centroids = kmeans(jnp.asarray(points), 12, jax.random.key(seed))
        ours.append(inertia(points, np.asarray(centroids)))
        start, _ = kmeans_plusplus(points, 12, random_state=seed, n_local_trials=1)
        theirs.append(KMeans(12, init=start, n_init=1).fit(points).inertia_)
    assert min(ours) < 1.01 * min(theirs)
    assert np.median(ours) < 1.15 * np.median(theirs)


def test_more_clusters_than_distinct_points_stay_on_the_points():
    points = jnp.array([[1.0, 2.0], [3.0, 3.0], [3.0, 3.0]])
    centroids = np.asarray(kmeans(points, 5, jax.random.key(0)))
    assert {tuple(c) for c in centroids} == {(1.0, 2.0), (3.0, 3.0)}


def test_start_never_draws_a_point_twice_while_another_is_left():
    distinct = np.random.default_rng(2).normal(size=(8, 3)).astype(np.float32)
    points = jnp.asarray(np.repeat(distinct, 5, axis=0))
    start = kmeans(points, 8, jax.random.key(0), iterations=0)
    assert {tuple(c) for c in np.asarray(start)} == {tuple(c) for c in distinct}


def test_one_cluster_is_the_mean():
    points = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    centroids = kmeans(jnp.asarray(points), 1, jax.random.key(0))
    np.testing.assert_allclose(centroids[0], points.mean(axis=0), rtol=1e-5, atol=1e-6)
