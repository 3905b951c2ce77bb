"""Packs the tokens of a batch of sources side by side, without the padding between them.

Layers that act on each token alone, which are most of an encoder, then spend nothing on padding;
only attention sees sources as rows again. Where the rows of a batch lie on several devices, each
device packs its own.

G is the number of those devices and C the number of slots for tokens on each; B, S and E are those
of `network`.
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
    """The slot of each token of the sources, and the token in each slot.

    Attributes:
        mask: which tokens are packed, bool [B, S].
        position: each slot's token, as its position in the device's part of the sources, row by
            row; int [G, C].
        filled: which slots hold a token, bool [G, C].
        place: each token's slot on its device, without meaning on padding; int [G, B / G * S].
    """

    mask: Any
    position: Any
    filled: Any
    place: Any


def make_packing(mask: Bool[Array, "B S"], packed_tokens: int) -> Packing:
    """Packs the tokens where `mask` is True.

    Args:
        mask: False on padding.
        packed_tokens: C, the slots on each device; tokens beyond them are lost.
    """
    parts = mask.reshape(data_devices(), -1)
    # The positions of tokens come before those of padding.
    position = jnp.argsort(~parts, axis=1, stable=True)[:, :packed_tokens]
    filled = jnp.arange(packed_tokens)[None] < jnp.sum(parts, axis=1, keepdims=True)
    return Packing(mask, position, filled, jnp.cumsum(parts, axis=1) - 1)


def pack(x: Shaped[Array, "B S *_"], packing: Packing | None) -> Shaped[Array, "G C *_"]:
    """Packs `x`, with zeros in empty slots; without a packing, returns `x` itself."""
    return x if packing is None else _pack(x, packing)


def unpack(x: Shaped[Array, "G C *_"], packing: Packing | None) -> Shaped[Array, "B S *_"]:
    """Unpacks `x` to rows, with zeros on padding; without a packing, returns `x` itself."""
    return x if packing is None else _unpack(x, packing)


def of_each_source(x: Shaped[Array, "B E"], packing: Packing) -> Shaped[Array, "G C E"]:
    """Returns for every slot the row of its token's source."""
    sources, length = packing.mask.shape
    devices = len(packing.position)
    return _rows(x.reshape(devices, sources // devices, -1), packing.position // length)


# Each is the other's transpose, so that the backward pass gathers too, and does not scatter.


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
