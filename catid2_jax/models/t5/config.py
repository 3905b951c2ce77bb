"""The shape of a T5."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import flax.linen as nn
import jax

from catid2_jax.constraints import (
    NonNegativeInt,
    PositiveInt,
    ShareBelowOne,
    at_least,
    check_fields,
    one_of,
)
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
        adaptor_layers: layers of the second stack of the decoder "pawa", which adapts the output
            weights to query and prefix; other decoders have none.
        adaptor_rank: rank of the matrix by which the decoder "pawa" changes the output weights for
            each prefix.

    Raises:
        InputError: a value out of its range, or no activation.
    """

    emb_dim: PositiveInt = 512
    num_heads: PositiveInt = 6
    head_dim: PositiveInt = 64
    mlp_dim: PositiveInt = 1024
    num_encoder_layers: NonNegativeInt = 8
    num_decoder_layers: NonNegativeInt = 8
    dropout_rate: ShareBelowOne = 0.0
    mlp_activations: tuple[Annotated[str, one_of(ACTIVATIONS)], ...] = ("gelu", "linear")
    logits_via_embedding: bool = False
    relative_attention_num_buckets: Annotated[int, at_least(4)] = 32
    relative_attention_max_distance: PositiveInt = 128
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    memory_tokens: NonNegativeInt = 0
    adaptor_layers: PositiveInt = 1
    adaptor_rank: PositiveInt = 4

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.mlp_activations:
            raise InputError("mlp_activations", "()", f"one or more of {', '.join(ACTIVATIONS)}")
