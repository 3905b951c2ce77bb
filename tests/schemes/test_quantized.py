"""Residual k-means and means of groups, against NumPy."""

import jax
import numpy as np
import pytest

from catid2_jax.schemes.quantized import (
    Quantized,
    group_means,
    quantization_figures,
    residual_kmeans,
)

GENERATOR = np.random.default_rng(0)
CENTRES = 6 * GENERATOR.normal(size=(5, 4))
X = (CENTRES[GENERATOR.integers(5, size=150)] + GENERATOR.normal(size=(150, 4))).astype(np.float32)


@pytest.mark.parametrize("balanced", [False, True])
def test_codebooks_are_the_means_of_what_is_left(balanced):
    found = residual_kmeans(X, 3, 5, jax.random.key(0), balanced)
    np.testing.assert_array_equal(found.latents, X)
    assert found.codebooks.shape == (3, 5, 4)
    residuals, uneven = X.astype(np.float64), []
    for codebook, codes in zip(found.codebooks, found.nearest.T, strict=True):
        # Lloyd's algorithm has come to rest on so few points.
        means = [residuals[codes == code].mean(axis=0) for code in range(5)]
        np.testing.assert_allclose(codebook, means, atol=1e-4)
        distances = ((residuals[:, None] - codebook[None]) ** 2).sum(axis=2)
        if not balanced:
            np.testing.assert_array_equal(codes, distances.argmin(axis=1))
        uneven.append(np.ptp(np.bincount(codes, minlength=5)))
        residuals = residuals - codebook[codes]
    assert max(uneven) <= 6 if balanced else max(uneven) > 15


def test_means_of_groups_written_out():
    groups = GENERATOR.integers(20, 30, size=150)
    found = group_means(X, groups)
    assert found.dtype == np.float32
    for row, group in enumerate(groups):
        expected = np.mean(
            [x for x, g in zip(X.astype(float), groups, strict=True) if g == group], 0
        )
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6)


def test_figures_by_hand():
    latents = np.array([[0, 0], [0, 0], [4, 0], [4, 4]], np.float32)
    codebooks = np.array([[[0, 0], [4, 2]], [[0, -2], [0, 2]]], np.float32)
    nearest = np.array([[0, 0], [0, 0], [1, 0], [1, 1]])
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    figures = quantization_figures(Quantized(latents, codebooks, nearest), codes)
    assert figures["collision_rate"] == 0.5
    assert figures["documents_reassigned"] == 0.25
    # The sum of squares about the mean (2, 1) is 16 + 12; 0, 0, 4 and 4 are left by one code.
    np.testing.assert_allclose(figures["quantization_error/level_1"], 8 / 28)
    np.testing.assert_allclose(figures["quantization_error/level_2"], 8 / 28)
    assert figures["before_reassignment/perplexity/level_1"] == 2
    assert figures["before_reassignment/dead_codes/level_2"] == 0
