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
    """Shape of a T5; the defaults are T5 1.1 small's, and the names T5X's where it has one.

    Attributes:
        emb_dim: width of the residual stream.
        num_heads: heads of every attention.
        head_dim: width of a head.
        mlp_dim: hidden width of the feed-forward layers.
        num_encoder_layers: encoder layers.
        num_decoder_layers: decoder layers.
        dropout_rate: dropout of embeddings, attention weights, hidden units and residual branches.
        mlp_activations: the activation of each input kernel of the feed-forward layer, whose
            outputs are multiplied: ("gelu", "linear") is T5 1.1, ("relu",) is T5 1.0.
        logits_via_embedding: whether logits use the embedding, as in T5 1.0, or `logits_dense`.
        relative_attention_num_buckets: buckets of the relative position bias.
        relative_attention_max_distance: the distance from which on positions share a bucket.
        dtype: type of the activations; parameters, softmaxes and logits stay in float32.
        remat: whether a training step keeps only each layer's input and computes the rest again
            for the gradient: a third more arithmetic, far less memory.
        memory_tokens: 0 if a source is a text. Otherwise a source is a vector from any encoder,
            which is projected to this many tokens; encoder layers are then optional.

    Raises:
        InputError: `mlp_activations` is empty or names an unknown one, or `memory_tokens` is below
            0.
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
                "mlp_activations", self.mlp_activations, f"one or more of {', '.join(ACTIVATIONS)}"
            )
        if self.memory_tokens < 0:
            raise InputError("memory_tokens", self.memory_tokens, "at least 0")
