import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from catid2_jax.ops.similarity import cosine_similarity, distance, normalize, squared_distance


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_agree_with_scipy():
    x, y = draw(5, 7), draw(6, 7, seed=1)
    a, b = jnp.asarray(x), jnp.asarray(y)
    np.testing.assert_allclose(cosine_similarity(a, b), 1 - cdist(x, y, "cosine"), atol=1e-6)
    np.testing.assert_allclose(squared_distance(a, b), cdist(x, y, "sqeuclidean"), rtol=1e-5)
    np.testing.assert_allclose(distance(a, b), cdist(x, y), rtol=1e-5)


def test_gradients_are_finite_at_zero_and_where_points_meet():
    zero = jnp.zeros((2, 3))
    for function in (cosine_similarity, distance):
        gradient = jax.grad(lambda x, f=function: f(x, x).sum())(zero)
        np.testing.assert_array_equal(gradient, zero)


def test_cosine_of_a_zero_row_is_zero():
    np.testing.assert_array_equal(
        cosine_similarity(jnp.zeros((1, 3)), jnp.ones((2, 3))), np.zeros((1, 2))
    )


def test_short_rows_are_divided_by_the_floor():
    x = draw(6, 3)
    x[2] *= 1e-3
    x[4] = 0.0
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    floor = 0.05 * np.sqrt(np.mean(norms**2))
    assert (norms < floor).sum() == 2
    found = normalize(jnp.asarray(x), 0.05)
    np.testing.assert_allclose(found, x / np.maximum(norms, floor), rtol=1e-5)
    # Without it, what is left of a row of zeros in a gradient is divided by 1e-6.
    gradient = jax.grad(lambda x, floor: normalize(x, floor).sum())
    assert np.abs(gradient(jnp.asarray(x), 0.0)[4]).max() > 1e5
    np.testing.assert_allclose(gradient(jnp.asarray(x), 0.05)[4], 1 / floor, rtol=1e-5)
