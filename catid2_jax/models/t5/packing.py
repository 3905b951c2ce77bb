"""The tokens of a batch of sources side by side, without the padding between them.

What acts on each token alone, which is most of an encoder, then costs nothing for padding; only
attention sees sources as rows again. Where the rows of a batch lie on several devices, each packs
its own.

G is the number of those devices, C the packed_tokens for tokens on each; B, S and E as in `network`.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Shaped

from catid2_jax.ops.mesh import data_devices


@flax.struct.dataclass
class Packing:
    """Which token of the sources is where.

    Attributes:
        mask: what is packed, bool [B, S].
        position: of each place's token in its device's part of the sources, row by row; int [G, C].
        filled: which packed_tokens have a token, bool [G, C].
        place: of each token among its device's; int [G, B / G * S], of no meaning on padding.
    """

    mask: Any
    position: Any
    filled: Any
    place: Any


def make_packing(mask: Bool[Array, "B S"], packed_tokens: int) -> Packing:
    """Packs the tokens where `mask` is True.

    Args:
        mask: False on padding.
        packed_tokens: C; tokens beyond it, of a device's part of the batch, are lost.
    """
    parts = mask.reshape(data_devices(), -1)
    # The positions of tokens, then those of padding.
    position = jnp.argsort(~parts, axis=1, stable=True)[:, :packed_tokens]
    filled = jnp.arange(packed_tokens)[None] < jnp.sum(parts, axis=1, keepdims=True)
    return Packing(mask, position, filled, jnp.cumsum(parts, axis=1) - 1)


def pack(x: Shaped[Array, "B S *_"], packing: Packing | None) -> Shaped[Array, "G C *_"]:
    """The tokens side by side, zeros where there is none; `x` itself without a packing."""
    return x if packing is None else _pack(x, packing)


def unpack(x: Shaped[Array, "G C *_"], packing: Packing | None) -> Shaped[Array, "B S *_"]:
    """The tokens as rows, zeros on padding; `x` itself without a packing."""
    return x if packing is None else _unpack(x, packing)


def of_each_source(x: Shaped[Array, "B E"], packing: Packing) -> Shaped[Array, "G C E"]:
    """For every place the row of its token's source."""
    sources, length = packing.mask.shape
    devices = len(packing.position)
    return _rows(x.reshape(devices, sources // devices, -1), packing.position // length)


# Either is the other's transpose: so the backward pass, too, gathers and does not scatter.


@jax.custom_vjp
def _pack(x: jax.Array, packing: Packing) -> jax.Array:
    parts = x.reshape(*packing.place.shape, *x.shape[2:])
    return _where(packing.filled, _rows(parts, packing.position))


@jax.custom_vjp
def _unpack(x: jax.Array, packing: Packing) -> jax.Array:
    parts = _rows(x, packing.place)
    return _where(packing.mask, parts.reshape(*packing.mask.shape, *x.shape[2:]))


_pack.defvjp(lambda x, p: (_pack(x, p), p), lambda p, cotangent: (_unpack(cotangent, p), None))
_unpack.defvjp(lambda x, p: (_unpack(x, p), p), lambda p, cotangent: (_pack(cotangent, p), None))


_rows = jax.vmap(functools.partial(jnp.take, axis=0, mode="clip"))


def _where(mask: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, jnp.zeros((), x.dtype))
