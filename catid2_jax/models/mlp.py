"""The DNN encoder E and decoder D."""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float


class MLP(nn.Module):
    """Dense layers with ReLU between them and none after the last.

    Attributes:
        widths: output width of each layer. Kernels are Xavier-normal, biases start at zero.
    """

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: Float[Array, "B _"]) -> Float[Array, "B _"]:
        """Applies all layers."""
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, kernel_init=nn.initializers.xavier_normal())(x)
            if i + 1 < len(self.widths):
                x = nn.relu(x)
        return x
