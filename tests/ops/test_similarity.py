import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from catid2_jax.ops.similarity import cosine_similarity, distance, squared_distance


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
