"""Maps T5X's parameters to Hugging Face's.

T5X's kernels are [inputs, outputs] and its position biases [heads, buckets]; Hugging Face's
matrices are their transposes, except for the embedding.
"""

from collections.abc import Mapping

import numpy as np

from catid2_jax.checkpoints.tree import EMBEDDING, LOGITS, parameter_shapes
from catid2_jax.models.t5.config import T5Config

_OUTSIDE_LAYERS: Mapping[str, str] = {
    EMBEDDING: "shared.weight",
    "encoder/relpos_bias/rel_embedding": (
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    ),
    "encoder/encoder_norm/scale": "encoder.final_layer_norm.weight",
    "decoder/relpos_bias/rel_embedding": (
        "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    ),
    "decoder/decoder_norm/scale": "decoder.final_layer_norm.weight",
    LOGITS: "lm_head.weight",
}

_ENCODER_LAYER: Mapping[str, str] = {
    "pre_attention_layer_norm/scale": "layer.0.layer_norm.weight",
    "attention/query/kernel": "layer.0.SelfAttention.q.weight",
    "attention/key/kernel": "layer.0.SelfAttention.k.weight",
    "attention/value/kernel": "layer.0.SelfAttention.v.weight",
    "attention/out/kernel": "layer.0.SelfAttention.o.weight",
    "pre_mlp_layer_norm/scale": "layer.1.layer_norm.weight",
    "mlp/wi/kernel": "layer.1.DenseReluDense.wi.weight",
    "mlp/wi_0/kernel": "layer.1.DenseReluDense.wi_0.weight",
    "mlp/wi_1/kernel": "layer.1.DenseReluDense.wi_1.weight",
    "mlp/wo/kernel": "layer.1.DenseReluDense.wo.weight",
}

_DECODER_LAYER: Mapping[str, str] = {
    "pre_self_attention_layer_norm/scale": "layer.0.layer_norm.weight",
    "self_attention/query/kernel": "layer.0.SelfAttention.q.weight",
    "self_attention/key/kernel": "layer.0.SelfAttention.k.weight",
    "self_attention/value/kernel": "layer.0.SelfAttention.v.weight",
    "self_attention/out/kernel": "layer.0.SelfAttention.o.weight",
    "pre_cross_attention_layer_norm/scale": "layer.1.layer_norm.weight",
    "encoder_decoder_attention/query/kernel": "layer.1.EncDecAttention.q.weight",
    "encoder_decoder_attention/key/kernel": "layer.1.EncDecAttention.k.weight",
    "encoder_decoder_attention/value/kernel": "layer.1.EncDecAttention.v.weight",
    "encoder_decoder_attention/out/kernel": "layer.1.EncDecAttention.o.weight",
    "pre_mlp_layer_norm/scale": "layer.2.layer_norm.weight",
    "mlp/wi/kernel": "layer.2.DenseReluDense.wi.weight",
    "mlp/wi_0/kernel": "layer.2.DenseReluDense.wi_0.weight",
    "mlp/wi_1/kernel": "layer.2.DenseReluDense.wi_1.weight",
    "mlp/wo/kernel": "layer.2.DenseReluDense.wo.weight",
}


def hugging_face_names(config: T5Config) -> dict[str, str]:
    """Returns Hugging Face's name of each of a network's parameters, by T5X's name."""
    names = dict(_OUTSIDE_LAYERS)
    for stack, layers, table in (
        ("encoder", config.num_encoder_layers, _ENCODER_LAYER),
        ("decoder", config.num_decoder_layers, _DECODER_LAYER),
    ):
        for i in range(layers):
            for ours, theirs in table.items():
                names[f"{stack}/layers_{i}/{ours}"] = f"{stack}.block.{i}.{theirs}"
    return {name: names[name] for name in parameter_shapes(config, 1)}


def turned(name: str, array: np.ndarray) -> np.ndarray:
    """Turns a parameter from either layout into the other; `name` is T5X's."""
    return np.ascontiguousarray(array.T) if array.ndim == 2 and name != EMBEDDING else array
