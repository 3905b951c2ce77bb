"""BERT's encoder (Devlin et al., 2019), of which MiniLM, E5 and BGE have the form.

B, S and E are those of `models.t5.network`, E being `hidden_size`; a leading `*batch` is [B, S] or,
for packed tokens, `packing`'s [G, C]. Kernels have the last names of T5's, whose sharding they
share.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.errors import InputError
from catid2_jax.models.t5.layers import dense, padding_bias
from catid2_jax.models.t5.packing import Packing, pack, unpack

_INITIALIZER = nn.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Shape of a BERT; the names are Hugging Face's, the defaults BERT base's.

    Attributes:
        vocab_size: rows of the word embedding.
        hidden_size: width of the token states, E.
        num_hidden_layers: layers.
        num_attention_heads: heads of every attention, H.
        intermediate_size: hidden width of the feed-forward layers.
        max_position_embeddings: the most tokens of a source.
        type_vocab_size: rows of the token type embedding, of which the first is used.
        layer_norm_eps: what layer norms add to the variance.
        hidden_dropout_prob: dropout of embeddings and residual branches in training.
        attention_probs_dropout_prob: dropout of attention weights in training.

    Raises:
        InputError: `hidden_size` is no multiple of `num_attention_heads`.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                "hidden_size",
                self.hidden_size,
                f"a multiple of num_attention_heads = {self.num_attention_heads}",
            )


class BertAttention(nn.Module):
    """Multi-head self-attention with biases; logits are divided by the root of a head's width."""

    config: BertConfig
    dtype: str

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*batch E"],
        bias: Float[Array, "B 1 1 S"],
        deterministic: bool,
        packing: Packing | None,
    ) -> Float[Array, "*batch E"]:
        """Attends from every token to those that `bias` shows."""
        heads = self.config.num_attention_heads
        width = self.config.hidden_size // heads

        def split(name: str) -> Float[Array, "B S H _"]:
            rows = unpack(_project(self.config.hidden_size, self.dtype, name)(x), packing)
            return rows.reshape(*rows.shape[:-1], heads, width)

        query, key, value = split("query"), split("key"), split("value")
        logits = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits / math.sqrt(width) + bias, axis=-1).astype(value.dtype)
        weights = nn.Dropout(self.config.attention_probs_dropout_prob)(weights, deterministic)
        joined = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(*query.shape[:2], -1)
        return _project(self.config.hidden_size, self.dtype, "out")(pack(joined, packing))


class BertLayer(nn.Module):
    """Self-attention and feed-forward layer, each `norm(x + f(x))`."""

    config: BertConfig
    dtype: str

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*batch E"],
        bias: Float[Array, "B 1 1 S"],
        deterministic: bool,
        packing: Packing | None,
    ) -> Float[Array, "*batch E"]:
        """Applies the layer."""
        config, dropout = self.config, nn.Dropout(self.config.hidden_dropout_prob)
        attention = BertAttention(config, self.dtype, name="attention")
        h = attention(x, bias, deterministic, packing)
        x = _norm(config, self.dtype, "attention_norm")(x + dropout(h, deterministic))
        h = _project(config.intermediate_size, self.dtype, "wi")(x)
        h = _project(config.hidden_size, self.dtype, "wo")(nn.gelu(h, approximate=False))
        return _norm(config, self.dtype, "mlp_norm")(x + dropout(h, deterministic))


class Bert(nn.Module):
    """The embeddings and the layers; if not `deterministic`, it needs the random stream "dropout".

    Attributes:
        config: the network's shape.
        dtype: type of the activations; parameters and softmaxes stay in float32.
        remat: whether a training step keeps only each layer's input, see `T5Config`.
    """

    config: BertConfig
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B S"],
        mask: Bool[Array, "B S"],
        deterministic: bool = True,
        packing: Packing | None = None,
    ) -> Float[Array, "*batch E"]:
        """Computes the state of each token after the last layer.

        Args:
            tokens: ids of WordPiece tokens.
            mask: False hides a token from every position.
            deterministic: whether to leave out dropout.
            packing: the packing of the tokens of `mask`, whose states are returned packed; None for
                the states of all tokens.
        """
        config = self.config
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
        types = jnp.zeros((1, 1), jnp.int32)
        x = self._embedding("word", config.vocab_size)(pack(tokens, packing))
        x += self._embedding("position", config.max_position_embeddings)(pack(positions, packing))
        x += self._embedding("token_type", config.type_vocab_size)(types)
        x = _norm(config, self.dtype, "embedding_norm")(x)
        x = nn.Dropout(config.hidden_dropout_prob)(x, deterministic)
        layer = nn.remat(BertLayer, static_argnums=(3,)) if self.remat else BertLayer
        bias = padding_bias(mask)
        for i in range(config.num_hidden_layers):
            x = layer(config, self.dtype, name=f"layers_{i}")(x, bias, deterministic, packing)
        return x

    def _embedding(self, kind: str, rows: int) -> nn.Embed:
        width, name = self.config.hidden_size, f"{kind}_embeddings"
        return nn.Embed(rows, width, self.dtype, embedding_init=_INITIALIZER, name=name)


def _project(features: int, dtype: str, name: str) -> nn.Dense:
    return dense(features, use_bias=True, dtype=dtype, kernel_init=_INITIALIZER, name=name)


def _norm(config: BertConfig, dtype: str, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(config.layer_norm_eps, dtype, use_fast_variance=False, name=name)
