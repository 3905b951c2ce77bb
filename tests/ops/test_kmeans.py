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
    points = jnp.array([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    centroids = np.asarray(kmeans(points, 5, jax.random.key(0)))
    assert {tuple(c) for c in centroids} == {(0.0, 0.0), (1.0, 1.0)}


def test_one_cluster_is_the_mean():
    points = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    centroids = kmeans(jnp.asarray(points), 1, jax.random.key(0))
    np.testing.assert_allclose(centroids[0], points.mean(axis=0), rtol=1e-5, atol=1e-6)
