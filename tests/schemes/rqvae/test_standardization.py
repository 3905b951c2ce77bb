import numpy as np

from catid2_jax.schemes.rqvae.standardization import fit_standardization, no_standardization


def test_standardization_gives_unit_variance_and_leaves_constants():
    x = np.random.default_rng(0).normal(3, [1, 5, 0.01], size=(500, 3)).astype(np.float32)
    x = np.concatenate([x, np.full((500, 1), 7, np.float32)], axis=1)
    y = fit_standardization(x)(x)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(y.std(axis=0), [1, 1, 1, 0], atol=1e-4)
    np.testing.assert_array_equal(no_standardization(4)(x), x)
