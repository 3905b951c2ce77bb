"""The layers of T5 (Raffel et al., 2020, section 2.1; T5 1.1: Shazeer, 2020).

In shapes, Q and K are the lengths of the queries' and of the keys' sequence, E is the model's width
and H the number of heads of width Dh; a leading `*batch` may be [B] or, for beams that each have
their own keys, [B, M]. Parameters have the names of T5X's `examples/t5`.
"""

import functools
import operator
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from catid2_jax.models.t5.config import ACTIVATIONS, T5Config
from catid2_jax.models.t5.packing import Packing, of_each_source, pack, unpack

MASKED = -1e10
"""The bias of an attention logit that must not count; finite, so that a row of them is no NaN."""

KeysValues: TypeAlias = tuple[Float[Array, "... H Dh"], Float[Array, "... H Dh"]]
"""Projected keys and values, [*batch, K, H, Dh] each."""


def dense(features: int, use_bias: bool = False, **options: Any) -> nn.Dense:
    """Returns a projection whose kernel's gradient is one product over all tokens.

    Where the axes before the last are joined into one, XLA's CPU kernels read tokens and cotangents
    in place; with several axes XLA would transpose copies of them.
    """
    return nn.Dense(features, use_bias=use_bias, dot_general=_dot_general_of_rows, **options)


def _dot_general_of_rows(
    x: Float[Array, "... E"], kernel: Float[Array, "E F"], dimension_numbers: Any, **options: Any
) -> Float[Array, "... F"]:
    rows = x.reshape(-1, x.shape[-1])
    product = jax.lax.dot_general(rows, kernel, (((1,), (0,)), ((), ())), **options)
    return product.reshape(*x.shape[:-1], -1)


def layer_norm(config: T5Config) -> nn.RMSNorm:
    """Returns T5's layer norm: no mean, no bias, epsilon 1e-6, computed in float32."""
    return nn.RMSNorm(epsilon=1e-6, dtype=config.dtype)


class Dropout(nn.Dropout):
    """T5's dropout, which has one mask for all tokens of a sequence, packed or not."""

    def __call__(  # type: ignore[override]
        self, x: Float[Array, "*batch Q E"], deterministic: bool, packing: Packing | None = None
    ) -> Float[Array, "*batch Q E"]:
        """Applies one mask to each sequence, a row of `x` or a packed source."""
        if packing is None or deterministic or self.rate == 0.0:
            return super().__call__(x, deterministic)
        ones = jnp.ones((len(packing.mask), 1, x.shape[-1]), x.dtype)
        return x * of_each_source(super().__call__(ones, deterministic)[:, 0], packing)


def dropout(config: T5Config) -> Dropout:
    """Returns the configured dropout."""
    return Dropout(config.dropout_rate, broadcast_dims=(-2,))


def padding_bias(mask: Bool[Array, "B K"]) -> Float[Array, "B 1 1 K"]:
    """Returns the bias that hides the keys where `mask` is False."""
    return jnp.where(mask, 0.0, MASKED)[:, None, None, :]


def causal_bias(length: int) -> Float[Array, "1 1 Q Q"]:
    """Returns the bias that hides the keys after the query."""
    return jnp.where(np.tri(length, dtype=bool), 0.0, MASKED)[None, None]


def relative_position_bucket(
    relative_position: np.ndarray, bidirectional: bool, num_buckets: int, max_distance: int
) -> np.ndarray:
    """Returns T5's buckets: one per short distance, then ever wider ones up to `max_distance`.

    Args:
        relative_position: key position minus query position, any shape; known when tracing.
        bidirectional: whether half of the buckets are for keys after the query; otherwise all of
            those share bucket 0.
        num_buckets: the number of buckets.
        max_distance: the distance from which on all share the last bucket.

    Returns:
        int32 in 0..num_buckets-1, of the shape of `relative_position`.
    """
    offset = np.zeros_like(relative_position)
    distance = np.maximum(-relative_position, 0)
    if bidirectional:
        num_buckets //= 2
        offset = np.where(relative_position > 0, num_buckets, 0)
        distance = np.abs(relative_position)
    exact = num_buckets // 2
    wide = num_buckets - exact
    starts = exact * (max_distance / exact) ** (np.arange(1, wide) / wide)
    # Some starts are whole numbers (16, 32, 64): a rounding error must not move them up by one.
    starts = np.ceil(starts - 1e-6)
    bucket = np.minimum(distance, exact) + np.searchsorted(starts, distance, side="right")
    return (offset + bucket).astype(np.int32)


class RelativePositionBias(nn.Module):
    """A learnt attention bias per head and bucket of the relative position."""

    config: T5Config
    bidirectional: bool

    @nn.compact
    def __call__(
        self, query_positions: np.ndarray, key_positions: np.ndarray
    ) -> Float[Array, "1 H Q K"]:
        """Returns the bias of keys at `key_positions` [K] for queries at `query_positions` [Q]."""
        config = self.config
        buckets = relative_position_bucket(
            key_positions[None, :] - query_positions[:, None],
            self.bidirectional,
            config.relative_attention_num_buckets,
            config.relative_attention_max_distance,
        )
        embedding = self.param(
            "rel_embedding",
            nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
            (config.num_heads, config.relative_attention_num_buckets),
        )
        return embedding[:, buckets][None]


class Attention(nn.Module):
    """Multi-head attention without biases; the logits are not divided by sqrt(Dh).

    That division is folded into the query kernel's initialiser, as in T5X.
    """

    config: T5Config

    def setup(self) -> None:
        """Builds the four projections, each with a 2-D kernel."""
        config = self.config
        project = functools.partial(dense, dtype=config.dtype)
        initializer = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        query_initializer = nn.initializers.variance_scaling(
            1.0 / config.head_dim, "fan_in", "normal"
        )
        joined = config.num_heads * config.head_dim
        self.query = project(joined, kernel_init=query_initializer)
        self.key = project(joined, kernel_init=initializer)
        self.value = project(joined, kernel_init=initializer)
        self.out = project(config.emb_dim, kernel_init=initializer)
        self.dropout = dropout(config)

    def _split_heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], self.config.num_heads, self.config.head_dim)

    def keys_values(
        self, x: Float[Array, "*batch K E"], packing: Packing | None = None
    ) -> KeysValues:
        """Projects `x` to keys and values in one row per sequence, even if `x` is packed."""
        keys, values = unpack(self.key(x), packing), unpack(self.value(x), packing)
        return self._split_heads(keys), self._split_heads(values)

    def __call__(
        self,
        x: Float[Array, "*tokens E"],
        keys_values: KeysValues,
        bias: Float[Array, "*#batch #H #Q K"],
        deterministic: bool,
        packing: Packing | None = None,
    ) -> Float[Array, "*tokens E"]:
        """Attends from `x`, which is [*batch, Q, E] or packed."""
        keys, values = keys_values
        query = self._split_heads(unpack(self.query(x), packing))
        logits = jnp.einsum(
            "...qhd,...khd->...hqk", query, keys, preferred_element_type=jnp.float32
        )
        weights = jax.nn.softmax(logits + bias, axis=-1).astype(values.dtype)
        weights = self.dropout(weights, deterministic)
        heads = jnp.einsum("...hqk,...khd->...qhd", weights, values)
        return self.out(pack(heads.reshape(*heads.shape[:-2], -1), packing))


class FeedForward(nn.Module):
    """Feed-forward layer: the product of the activated projections, projected back.

    One activation has one kernel `wi` (T5 1.0), several have `wi_0`, `wi_1`, ... (gated, T5 1.1).
    """

    config: T5Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch Q E"], deterministic: bool, packing: Packing | None = None
    ) -> Float[Array, "*batch Q E"]:
        """Applies the layer to each position."""
        config = self.config
        project = functools.partial(
            dense,
            dtype=config.dtype,
            kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal"),
        )
        single = len(config.mlp_activations) == 1
        hidden = [
            ACTIVATIONS[name](project(config.mlp_dim, name="wi" if single else f"wi_{i}")(x))
            for i, name in enumerate(config.mlp_activations)
        ]
        product = functools.reduce(operator.mul, hidden)
        product = dropout(config)(product, deterministic, packing)
        return project(config.emb_dim, name="wo")(product)
