"""T5, an encoder-decoder Transformer, with T5X's parameter tree and decoding by beams.

E is the width of the residual stream, T the length of the decoder's input, t the position that is
decoded and H the number of heads of width Dh; B, S, M and V are those of `catid2_jax.types`.
"""

from typing import TypeAlias

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.layers import (
    Attention,
    FeedForward,
    KeysValues,
    RelativePositionBias,
    causal_bias,
    dense,
    dropout,
    layer_norm,
    padding_bias,
)
from catid2_jax.models.t5.memory import MemoryTokens
from catid2_jax.models.t5.packing import Packing, make_packing, pack

Source: TypeAlias = Int[Array, "B S"] | Float[Array, "B D"]
"""Token ids of texts, or vectors for a network with S memory tokens."""

Cache: TypeAlias = tuple[KeysValues, ...]
"""Keys and values of each decoder layer."""


def empty_cache(config: T5Config, batch_size: int) -> Cache:
    """Returns the self-attention keys and values before the first token: [B, 1, 0, H, Dh] each."""
    empty = jnp.zeros((batch_size, 1, 0, config.num_heads, config.head_dim), config.dtype)
    return ((empty, empty),) * config.num_decoder_layers


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward layer, each `x + f(norm(x))`."""

    config: T5Config

    def setup(self) -> None:
        """Builds the sublayers."""
        self.pre_attention_layer_norm = layer_norm(self.config)
        self.attention = Attention(self.config)
        self.pre_mlp_layer_norm = layer_norm(self.config)
        self.mlp = FeedForward(self.config)
        self.dropout = dropout(self.config)

    def __call__(
        self,
        x: Float[Array, "*batch E"],
        bias: Float[Array, "B H S S"],
        deterministic: bool,
        packing: Packing | None,
    ) -> Float[Array, "*batch E"]:
        """Applies the layer."""
        h = self.pre_attention_layer_norm(x)
        keys_values = self.attention.keys_values(h, packing)
        h = self.attention(h, keys_values, bias, deterministic, packing)
        x = x + self.dropout(h, deterministic, packing)
        h = self.mlp(self.pre_mlp_layer_norm(x), deterministic, packing)
        return x + self.dropout(h, deterministic, packing)


class Encoder(nn.Module):
    """The encoder's layers, with one relative position bias for all of them."""

    config: T5Config

    def setup(self) -> None:
        """Builds the layers."""
        config = self.config
        self.relpos_bias = RelativePositionBias(config, bidirectional=True)
        layer = nn.remat(EncoderLayer, static_argnums=(3,)) if config.remat else EncoderLayer
        self.layers = [layer(config) for _ in range(config.num_encoder_layers)]
        self.encoder_norm = layer_norm(config)
        self.dropout = dropout(config)

    def __call__(
        self,
        x: Float[Array, "*batch E"],
        mask: Bool[Array, "B S"],
        deterministic: bool,
        packing: Packing | None,
    ) -> Float[Array, "*batch E"]:
        """Encodes embedded tokens, [B, S, E] or packed."""
        positions = np.arange(mask.shape[1])
        bias = self.relpos_bias(positions, positions) + padding_bias(mask)
        x = self.dropout(x, deterministic, packing)
        for layer in self.layers:
            x = layer(x, bias, deterministic, packing)
        return self.dropout(self.encoder_norm(x), deterministic, packing)


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward layer, each `x + f(norm(x))`."""

    config: T5Config

    def setup(self) -> None:
        """Builds the sublayers."""
        self.pre_self_attention_layer_norm = layer_norm(self.config)
        self.self_attention = Attention(self.config)
        self.pre_cross_attention_layer_norm = layer_norm(self.config)
        self.encoder_decoder_attention = Attention(self.config)
        self.pre_mlp_layer_norm = layer_norm(self.config)
        self.mlp = FeedForward(self.config)
        self.dropout = dropout(self.config)

    def cross_keys_values(
        self, encoded: Float[Array, "*batch E"], packing: Packing | None
    ) -> KeysValues:
        """Projects what the cross-attention attends to."""
        return self.encoder_decoder_attention.keys_values(encoded, packing)

    def __call__(
        self,
        x: Float[Array, "B T E"],
        cross: KeysValues,
        self_bias: Float[Array, "1 H T T"],
        cross_bias: Float[Array, "B 1 1 S"],
        deterministic: bool,
    ) -> Float[Array, "B T E"]:
        """Applies the layer to all positions at once."""
        h = self.pre_self_attention_layer_norm(x)
        h = self.self_attention(h, self.self_attention.keys_values(h), self_bias, deterministic)
        x = x + self.dropout(h, deterministic)
        return self._after_self_attention(x, cross, cross_bias, deterministic)

    def step(
        self,
        x: Float[Array, "B M E"],
        cross: KeysValues,
        past: KeysValues,
        self_bias: Float[Array, "1 1 H 1 _"],
        cross_bias: Float[Array, "B 1 1 S"],
    ) -> tuple[Float[Array, "B M E"], KeysValues]:
        """Applies the layer to one position of M beams; returns the past with that position too."""
        h = self.pre_self_attention_layer_norm(x)[:, :, None]
        keys, values = (
            jnp.concatenate([old, new], axis=2)
            for old, new in zip(past, self.self_attention.keys_values(h), strict=True)
        )
        x = x + self.self_attention(h, (keys, values), self_bias, True)[:, :, 0]
        return self._after_self_attention(x, cross, cross_bias, True), (keys, values)

    def _after_self_attention(
        self,
        x: Float[Array, "B Q E"],
        cross: KeysValues,
        cross_bias: Float[Array, "B 1 1 S"],
        deterministic: bool,
    ) -> Float[Array, "B Q E"]:
        """Applies the other two sublayers, which treat beams and positions alike."""
        h = self.pre_cross_attention_layer_norm(x)
        h = self.encoder_decoder_attention(h, cross, cross_bias, deterministic)
        x = x + self.dropout(h, deterministic)
        h = self.mlp(self.pre_mlp_layer_norm(x), deterministic)
        return x + self.dropout(h, deterministic)


class Decoder(nn.Module):
    """The decoder's layers, with one relative position bias for all of them, and untied logits."""

    config: T5Config
    vocabulary_size: int

    def setup(self) -> None:
        """Builds the layers."""
        config = self.config
        self.relpos_bias = RelativePositionBias(config, bidirectional=False)
        layer = nn.remat(DecoderLayer, static_argnums=(5,)) if config.remat else DecoderLayer
        self.layers = [layer(config) for _ in range(config.num_decoder_layers)]
        self.decoder_norm = layer_norm(config)
        self.dropout = dropout(config)
        if not config.logits_via_embedding:
            self.logits_dense = dense(
                self.vocabulary_size,
                dtype="float32",
                kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal"),
            )

    def cross_keys_values(
        self, encoded: Float[Array, "*batch E"], packing: Packing | None
    ) -> Cache:
        """Projects what each layer's cross-attention attends to."""
        return tuple(layer.cross_keys_values(encoded, packing) for layer in self.layers)

    def __call__(
        self,
        x: Float[Array, "B T E"],
        cross: Cache,
        encoder_mask: Bool[Array, "B S"],
        deterministic: bool,
    ) -> Float[Array, "B T E"]:
        """Decodes embedded tokens, all positions at once."""
        positions = np.arange(x.shape[1])
        self_bias = self.relpos_bias(positions, positions) + causal_bias(x.shape[1])
        cross_bias = padding_bias(encoder_mask)
        x = self.dropout(x, deterministic)
        for layer, keys_values in zip(self.layers, cross, strict=True):
            x = layer(x, keys_values, self_bias, cross_bias, deterministic)
        return self.dropout(self.decoder_norm(x), deterministic)

    def step(
        self,
        x: Float[Array, "B M E"],
        cross: Cache,
        encoder_mask: Bool[Array, "B S"],
        cache: Cache,
    ) -> tuple[Float[Array, "B M E"], Cache]:
        """Decodes one position of M beams."""
        position = cache[0][0].shape[2]
        self_bias = self.relpos_bias(np.array([position]), np.arange(position + 1))[None]
        cross_bias = padding_bias(encoder_mask)
        grown = []
        for layer, keys_values, past in zip(self.layers, cross, cache, strict=True):
            x, past = layer.step(x, keys_values, past, self_bias, cross_bias)
            grown.append(past)
        return self.decoder_norm(x), tuple(grown)


class Transformer(nn.Module):
    """The whole T5; if not `deterministic`, it needs the random stream "dropout".

    Attributes:
        config: the network's shape.
        vocabulary_size: V, rows of the embedding and of the logits.
    """

    config: T5Config
    vocabulary_size: int

    def setup(self) -> None:
        """Builds the embedding, which encoder and decoder share, and the two stacks."""
        config = self.config
        self.token_embedder = nn.Embed(
            self.vocabulary_size,
            config.emb_dim,
            dtype=config.dtype,
            embedding_init=nn.initializers.normal(1.0),
        )
        if config.memory_tokens:
            self.memory = MemoryTokens(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, self.vocabulary_size)

    @nn.nowrap
    def source_mask(self, source: Source) -> Bool[Array, "B S"]:
        """Returns the `encoder_mask` of sources: False on padding, token 0; vectors have none."""
        if self.config.memory_tokens:
            return jnp.ones((source.shape[0], self.config.memory_tokens), bool)
        return source != 0

    @nn.nowrap
    def empty_cache(self, batch_size: int) -> Cache:
        """Returns the cache before the first token."""
        return empty_cache(self.config, batch_size)

    def __call__(
        self,
        encoder_tokens: Source,
        encoder_mask: Bool[Array, "B S"],
        decoder_input_tokens: Int[Array, "B T"],
        deterministic: bool = True,
        packed_tokens: int = 0,
    ) -> Float[Array, "B T V"]:
        """Computes teacher-forced logits.

        Args:
            encoder_tokens: the source.
            encoder_mask: the source's mask, which `source_mask` makes; False hides a token from
                every position.
            decoder_input_tokens: the target, shifted right by one with token 0 in front.
            deterministic: whether to leave out dropout.
            packed_tokens: slots for the source's tokens on each device, which are then encoded
                without padding; 0 encodes padding too. If the tokens of every device's part of the
                batch fit, the logits are the same.

        Returns:
            Logits of each next token, float32.
        """
        return self.logits(
            self.decode(
                encoder_tokens, encoder_mask, decoder_input_tokens, deterministic, packed_tokens
            )
        )

    def decode(
        self,
        encoder_tokens: Source,
        encoder_mask: Bool[Array, "B S"],
        decoder_input_tokens: Int[Array, "B T"],
        deterministic: bool = True,
        packed_tokens: int = 0,
    ) -> Float[Array, "B T E"]:
        """Decodes all positions at once, of the arguments of a call.

        Returns:
            What `logits` takes for each next token.
        """
        packing = make_packing(encoder_mask, packed_tokens) if packed_tokens else None
        encoded = self._encode(encoder_tokens, encoder_mask, deterministic, packing)
        cross = self.decoder.cross_keys_values(encoded, packing)
        x = self.token_embedder(decoder_input_tokens)
        return self.decoder(x, cross, encoder_mask, deterministic)

    def encode(
        self,
        encoder_tokens: Source,
        encoder_mask: Bool[Array, "B S"],
        deterministic: bool = True,
    ) -> Float[Array, "B S E"]:
        """Encodes the source."""
        return self._encode(encoder_tokens, encoder_mask, deterministic, None)

    def start_decoding(self, encoded: Float[Array, "B S E"]) -> Cache:
        """Computes each decoder layer's cross-attention keys and values, [B, S, H, Dh] each."""
        return self.decoder.cross_keys_values(encoded, None)

    def decode_step(
        self,
        tokens: Int[Array, "B M"],
        cross: Cache,
        encoder_mask: Bool[Array, "B S"],
        cache: Cache,
    ) -> tuple[Float[Array, "B M E"], Cache]:
        """Decodes one position of M beams, without dropout.

        Args:
            tokens: each beam's token at position t; 0 at the first.
            cross: what `start_decoding` returned; the beams share it, it is never replicated.
            encoder_mask: the mask that `encode` was given.
            cache: self-attention keys and values of positions before t, [B, M, t, H, Dh] each;
                `empty_cache` at the first. Its shape determines t.

        Returns:
            What `logits` takes for the next token, and the cache with position t.
        """
        return self.decoder.step(self.token_embedder(tokens), cross, encoder_mask, cache)

    def logits(
        self, x: Float[Array, "*batch E"], columns: slice = slice(None)
    ) -> Float[Array, "*batch _"]:
        """Computes logits of tokens in float32, whatever the type of the activations.

        Args:
            x: the decoder's output.
            columns: the tokens whose logits are computed, by default all.
        """
        if self.config.logits_via_embedding:
            x = x.astype("float32") / np.sqrt(self.config.emb_dim)
            return jnp.einsum("...e,ve->...v", x, self.token_embedder.embedding[columns])
        if columns == slice(None):
            return self.decoder.logits_dense(x)
        kernel = self.decoder.logits_dense.variables["params"]["kernel"]
        return x.astype("float32") @ kernel[:, columns]

    def _encode(
        self,
        encoder_tokens: Source,
        encoder_mask: Bool[Array, "B S"],
        deterministic: bool,
        packing: Packing | None,
    ) -> Float[Array, "*batch E"]:
        if self.config.memory_tokens:
            x = self.memory(encoder_tokens)
        else:
            x = self.token_embedder(pack(encoder_tokens, packing))
        return self.encoder(x, encoder_mask, deterministic, packing)
