"""Unit variance per dimension, so that distances between latents start out near 1.

p^l is a softmax of distances: on unit-norm embeddings all of them are far below 1, p^l is nearly
uniform whatever the codes do, and L_CSC sees nothing of a collapse.
"""

import flax.struct
import numpy as np
from jaxtyping import Array, Float


@flax.struct.dataclass
class Standardization:
    """x -> (x - mean) / scale, per dimension; stored with the checkpoint.

    Attributes:
        mean: [D].
        scale: [D], standard deviation; 1 for a dimension that does not vary.
    """

    mean: Float[Array, " D"] | np.ndarray
    scale: Float[Array, " D"] | np.ndarray

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Standardises float32 [N, D]."""
        return (embeddings - np.asarray(self.mean)) / np.asarray(self.scale)


def fit_standardization(embeddings: np.ndarray) -> Standardization:
    """Mean and standard deviation of each dimension, summed in float64."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    scale = embeddings.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 1e-6, scale, 1.0)
    return Standardization(mean.astype(np.float32), scale.astype(np.float32))


def no_standardization(width: int) -> Standardization:
    """Leaves embeddings of this width as they are."""
    return Standardization(np.zeros(width, np.float32), np.ones(width, np.float32))
