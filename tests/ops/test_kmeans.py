import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from sklearn.cluster import KMeans, kmeans_plusplus

from catid2_jax.ops import kmeans as module
from catid2_jax.ops.kmeans import balanced_kmeans, even_clusters, kmeans


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


def squared_distances(points, centroids):
    points, centroids = points.astype(np.float64), np.asarray(centroids, np.float64)
    return ((points[:, None] - centroids[None]) ** 2).sum(axis=2)


def skewed(count, width=6, seed=3):
    """Points of which three in four are near the middle."""
    generator = np.random.default_rng(seed)
    spread = np.where(generator.uniform(size=(count, 1)) < 0.75, 0.4, 1.5)
    return (spread * generator.normal(size=(count, width))).astype(np.float32)


def perplexity(codes, clusters):
    shares = np.bincount(codes, minlength=clusters) / len(codes)
    return np.exp(-np.sum(shares[shares > 0] * np.log(shares[shares > 0])))


def balanced(points, clusters, seed=0, iterations=25):
    key = jax.random.key(seed)
    return map(np.asarray, balanced_kmeans(jnp.asarray(points), clusters, key, iterations))


def test_balanced_clusters_are_even_and_cost_as_little_as_an_exact_assignment():
    points = skewed(120)
    plain = squared_distances(points, kmeans(jnp.asarray(points), 12, jax.random.key(0)))
    assert perplexity(plain.argmin(axis=1), 12) < 8
    centroids, codes = balanced(points, 12)
    sizes = np.bincount(codes, minlength=12)
    assert 9 <= sizes.min() <= sizes.max() <= 11
    assert perplexity(codes, 12) > 11.9
    means = [points[codes == code].mean(axis=0) for code in range(12)]
    np.testing.assert_allclose(centroids, means, rtol=1e-4, atol=1e-5)
    costs = squared_distances(points, centroids)
    rows, slots = linear_sum_assignment(np.repeat(costs, 10, axis=1))  # room for ten each
    assert costs[np.arange(120), codes].sum() < 1.01 * costs[rows, slots // 10].sum()


def test_a_round_of_balanced_clusters_written_out():
    points, clusters = skewed(90), 7
    centroids = points[np.asarray(jax.random.permutation(jax.random.key(2), 90))[:clusters]]
    prices = np.zeros(clusters)
    for share, scalings in (0.1, 10), (0.003, 200):
        costs = squared_distances(points, centroids)
        epsilon = share * costs.mean()
        columns = -prices / epsilon
        for _ in range(scalings):
            rows = -logsumexp(columns - costs / epsilon, axis=1)
            columns = np.log(90 / clusters) - logsumexp(rows[:, None] - costs / epsilon, axis=0)
        prices = -epsilon * columns
        codes = (costs + prices).argmin(axis=1)
        centroids = np.stack([points[codes == code].mean(axis=0) for code in range(clusters)])
    found, found_codes = balanced(points, clusters, seed=2, iterations=1)
    np.testing.assert_array_equal(found_codes, codes)
    np.testing.assert_allclose(found, centroids, rtol=1e-4, atol=1e-5)


def test_balanced_clusters_do_not_depend_on_the_blocks(monkeypatch):
    points = skewed(90)
    whole = balanced(points, 7, iterations=1)
    monkeypatch.setattr(module, "_BLOCK", 32)
    balanced_kmeans.clear_cache()
    blocks = balanced(points, 7, iterations=1)
    balanced_kmeans.clear_cache()
    for found, expected in zip(blocks, whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("points", [np.ones((3, 2)), np.eye(2)[[0, 1, 1]]])
def test_balanced_clusters_of_equal_or_few_points(points):
    arguments = jnp.asarray(points, jnp.float32), 4, jax.random.key(0)
    with jax.debug_nans(True):  # within, too, and not in the results alone
        centroids, codes = map(np.asarray, balanced_kmeans.__wrapped__(*arguments))
    assert {tuple(c) for c in centroids} == {tuple(p) for p in points}
    np.testing.assert_array_equal(centroids[codes], points)


@pytest.mark.parametrize("clusters", [3, 9])
def test_even_clusters_are_as_large_as_each_other_and_compact(clusters):
    """Nine groups of four points that a sorted order hides, in nine or three clusters."""
    generator = np.random.default_rng(0)
    centres = 10.0 * np.array([[i, j] for i in (0, 5, 10) for j in (0, 1, 2)])
    labels = generator.permutation(np.repeat(np.arange(9), 4))
    points = (centres[labels] + generator.normal(size=(36, 2))).astype(np.float32)
    found = np.asarray(even_clusters(jnp.asarray(points), clusters))
    sizes = np.bincount(found, minlength=clusters)
    assert sizes.min() >= 0.5 * 36 / clusters
    assert sizes.max() <= 2 * 36 / clusters
    within = sum(points[found == c].var(axis=0).sum() * n for c, n in enumerate(sizes)) / 36
    shuffled = generator.permutation(found)
    others = sum(points[shuffled == c].var(axis=0).sum() * n for c, n in enumerate(sizes)) / 36
    assert within < 0.5 * others


def test_even_clusters_of_fewer_points():
    points = jnp.asarray(np.eye(3, dtype=np.float32))
    assert sorted(np.asarray(even_clusters(points, 10)).tolist()) == [0, 1, 2]
