"""Stores parameters in fewer bits for retrieval: bfloat16, or int8 with a scale per channel.

Only storage is smaller. Activations keep the network's type, and int8 is converted back before it
is used, which costs a pass over the parameters per call.
"""

from typing import Any, Literal, TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

ParamDtype: TypeAlias = Literal["float32", "bfloat16", "int8"]
"""The type in which kernels and the embedding are stored; all else stays in float32."""

_CHANNEL_SUMS = {"kernel": 0, "embedding": 1}
"""The axis that runs within a channel, by the name of a parameter that is stored in fewer bits.

A channel is an output of a kernel [in, out] or a token of the embedding [V, E].
"""


@flax.struct.dataclass
class Int8Matrix:
    """A matrix as `values * scales`, its rounding error at most half a scale."""

    values: Int8[Array, "_ _"]
    scales: Float[Array, "_ _"]


def quantize(params: Any, param_dtype: ParamDtype) -> Any:
    """Returns parameters with their matrices stored as `param_dtype`; see `dequantize`."""
    if param_dtype == "float32":
        return params

    def stored(path: tuple[Any, ...], leaf: jax.Array) -> Any:
        axis = _CHANNEL_SUMS.get(path[-1].key)
        if axis is None:
            return leaf
        if param_dtype == "bfloat16":
            return leaf.astype(jnp.bfloat16)
        largest = jnp.max(jnp.abs(leaf), axis=axis, keepdims=True)
        # A channel of zeros has any scale.
        scales = jnp.where(largest > 0, largest / 127, 1.0)
        return Int8Matrix(jnp.round(leaf / scales).astype(jnp.int8), scales)

    return jax.tree_util.tree_map_with_path(stored, params)


def dequantize(params: Any) -> Any:
    """Returns the parameters for a network, from those that `quantize` stored or any others."""

    def used(leaf: Any) -> jax.Array:
        return leaf.values * leaf.scales if isinstance(leaf, Int8Matrix) else leaf

    return jax.tree.map(used, params, is_leaf=lambda leaf: isinstance(leaf, Int8Matrix))
