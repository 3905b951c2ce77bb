"""The multilayer perceptron that encoder E and decoder D are."""

import functools
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": nn.gelu,
    "relu": nn.relu,
    "silu": nn.silu,
}

KERNELS: Mapping[str, nn.initializers.Initializer] = {
    "he_normal": nn.initializers.he_normal(),
    "lecun_normal": nn.initializers.lecun_normal(),
    "xavier_normal": nn.initializers.xavier_normal(),
    "xavier_uniform": nn.initializers.xavier_uniform(),
}

_accumulate_in_float32 = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)


class MLP(nn.Module):
    """Dense layers with an activation between them and none after the last.

    Attributes:
        widths: output width of each layer.
        activation: name of the activation, one of `ACTIVATIONS`.
        kernel: name of the kernels' initialiser, one of `KERNELS`; biases start at zero.
        starts_at_zero: whether the last kernel starts at zero.
        dropout_rate: share of the units that are dropped after each activation.
        dtype: type of the matrix products' inputs; the products accumulate in float32.
    """

    widths: Sequence[int]
    activation: str = "relu"
    kernel: str = "xavier_normal"
    starts_at_zero: bool = False
    dropout_rate: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "B _"], training: bool = False) -> Float[Array, "B _"]:
        """Applies all layers; if `training`, with dropout from the random stream "dropout"."""
        for i, width in enumerate(self.widths):
            is_last = i + 1 == len(self.widths)
            kernel = nn.initializers.zeros_init()
            if not (is_last and self.starts_at_zero):
                kernel = KERNELS[self.kernel]
            x = nn.Dense(
                width,
                dtype=jnp.dtype(self.dtype),
                kernel_init=kernel,
                dot_general=_accumulate_in_float32,
            )(x)
            if not is_last:
                x = ACTIVATIONS[self.activation](x)
                x = nn.Dropout(self.dropout_rate, deterministic=not training)(x)
        return x
