"""Standardisation of embeddings to unit variance per dimension.

It makes the distances between latents start out near 1. p^l is a softmax of these distances: on
unit-norm embeddings all of them are far below 1, so that p^l is nearly uniform for any codes and
L_CSC does not respond to a collapse.
"""

import flax.struct
import numpy as np
from jaxtyping import Array, Float


@flax.struct.dataclass
class Standardization:
    """The map x -> (x - mean) / scale per dimension, stored with the checkpoint.

    Attributes:
        mean: mean of each dimension.
        scale: standard deviation of each dimension; 1 for a dimension that does not vary.
    """

    mean: Float[Array, " D"] | np.ndarray
    scale: Float[Array, " D"] | np.ndarray

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Standardises embeddings, float32 [N, D]."""
        return (embeddings - np.asarray(self.mean)) / np.asarray(self.scale)


def fit_standardization(embeddings: np.ndarray) -> Standardization:
    """Computes the mean and standard deviation of each dimension, summed in float64."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    scale = embeddings.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 1e-6, scale, 1.0)
    return Standardization(mean.astype(np.float32), scale.astype(np.float32))


def no_standardization(width: int) -> Standardization:
    """Creates the identity map for embeddings of this width."""
    return Standardization(np.zeros(width, np.float32), np.ones(width, np.float32))
