"""The shape of a T5."""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax

from catid2_jax.errors import InputError

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": nn.gelu,  # the tanh approximation, as T5 1.1 was trained
    "linear": lambda x: x,
    "relu": nn.relu,
    "silu": nn.silu,
}


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Shape of a T5; the defaults are T5 1.1 small, the names T5X's where it has them.

    Attributes:
        emb_dim: width of the residual stream.
        num_heads: of every attention.
        head_dim: width of a head.
        mlp_dim: hidden width of the feed-forward layers.
        num_encoder_layers: encoder blocks.
        num_decoder_layers: decoder blocks.
        dropout_rate: of embeddings, attention weights, hidden units and residual branches.
        mlp_activations: one per input kernel of the feed-forward layer, their outputs multiplied:
            ("gelu", "linear") is T5 1.1, ("relu",) is T5 1.0.
        logits_via_embedding: logits through the embedding, as T5 1.0, not through `logits_dense`.
        relative_attention_num_buckets: of the relative position bias.
        relative_attention_max_distance: positions this far apart or farther share a bucket.
        dtype: of the activations; parameters, softmaxes and logits stay in float32.
        remat: whether a training step keeps each layer's input only and computes what is within
            the layer again for the gradient: a third more arithmetic, far less memory.
        memory_tokens: 0 for a source of text; else the source is a vector that any encoder gave,
            and a projection to this many tokens stands in the place of their embedding. The
            encoder's layers then see these; 0 of them leave all to the decoder.

    Raises:
        InputError: an unknown activation, or none; `memory_tokens` below 0.
    """

    emb_dim: int = 512
    num_heads: int = 6
    head_dim: int = 64
    mlp_dim: int = 1024
    num_encoder_layers: int = 8
    num_decoder_layers: int = 8
    dropout_rate: float = 0.0
    mlp_activations: tuple[str, ...] = ("gelu", "linear")
    logits_via_embedding: bool = False
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dtype: str = "float32"
    remat: bool = False
    memory_tokens: int = 0

    def __post_init__(self) -> None:
        if not self.mlp_activations or not set(self.mlp_activations) <= set(ACTIVATIONS):
            raise InputError(
                f"mlp_activations is {self.mlp_activations}: expected one or more of "
                f"{', '.join(ACTIVATIONS)}"
            )
        if self.memory_tokens < 0:
            raise InputError(f"memory_tokens is {self.memory_tokens}: expected at least 0")
