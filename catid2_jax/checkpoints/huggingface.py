"""Reads and writes Hugging Face's T5: `config.json`, and safetensors with or without an index."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from catid2_jax.checkpoints.names import hugging_face_names, turned
from catid2_jax.checkpoints.tree import DECODER, Checkpoint, read_json
from catid2_jax.errors import InputError
from catid2_jax.files import write_json
from catid2_jax.models.t5.config import T5Config

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"

_EMBEDDING, _LOGITS = "shared.weight", "lm_head.weight"
_ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"

_FIELDS: Mapping[str, str] = {
    "emb_dim": "d_model",
    "num_heads": "num_heads",
    "head_dim": "d_kv",
    "mlp_dim": "d_ff",
    "num_encoder_layers": "num_layers",
    "num_decoder_layers": "num_decoder_layers",
    "dropout_rate": "dropout_rate",
    "relative_attention_num_buckets": "relative_attention_num_buckets",
    "relative_attention_max_distance": "relative_attention_max_distance",
}
"""The field of `config.json` for each field of `T5Config`."""

_FEED_FORWARD: Mapping[str, tuple[str, ...]] = {
    "relu": ("relu",),
    "gelu_new": ("gelu",),
    "silu": ("silu",),
    "gated-gelu": ("gelu", "linear"),  # the tanh approximation, as in `ACTIVATIONS`
    "gated-relu": ("relu", "linear"),
    "gated-silu": ("silu", "linear"),
}
"""The `mlp_activations` for each `feed_forward_proj`."""


def read_hugging_face(folder: pathlib.Path) -> Checkpoint:
    """Reads a folder that `save_pretrained` wrote, of a T5 or of its encoder alone.

    Raises:
        InputError: a file or a parameter is missing or cannot be read, or `T5Config` cannot
            describe the network.
    """
    path = folder / "config.json"
    values = read_json(path)
    if values.get("model_type") not in ("t5", "mt5"):
        raise InputError(path, f"model_type {values.get('model_type')!r}", "'t5' or 'mt5'")
    weights = read_weights(folder)
    weights.pop(_UNUSED, None)  # some published files hold it; no network uses it
    for alias in _ALIASES:
        other = weights.pop(alias, None)
        if other is not None and not np.array_equal(weights.setdefault(_EMBEDDING, other), other):
            raise InputError(folder, f"{alias} unlike {_EMBEDDING}", "one embedding")
    encoder_alone = not any(name.startswith("decoder.") for name in weights)
    tied = encoder_alone or _settle_logits(weights, values, folder)
    config = _parse_config(values, tied, path)
    params = {}
    for ours, theirs in hugging_face_names(config).items():
        if encoder_alone and ours.startswith(DECODER):
            continue
        if theirs not in weights:
            raise InputError(folder, f"no parameter {theirs}", f"it for {ours}")
        params[ours] = turned(ours, weights.pop(theirs))
    if weights:
        raise InputError(
            folder, f"the parameter {min(weights)}", f"only those of the T5 that {path} describes"
        )
    return Checkpoint(params, config)


def read_token_names(folder: pathlib.Path) -> dict[int, str]:
    """Returns the tokens that a tokenizer adds to its SentencePiece model, by their ids.

    They are in `added_tokens.json`, `tokenizer_config.json` or `tokenizer.json`, as the release of
    transformers that wrote the folder has it; {} if none of these is there.

    Raises:
        InputError: a file is damaged or of another form.
    """
    found: dict[int, str] = {}
    for name in ("added_tokens.json", "tokenizer_config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            continue
        values = read_json(folder / name)
        try:
            if name == "added_tokens.json":
                found |= {int(token_id): token for token, token_id in values.items()}
            elif name == "tokenizer.json":
                found |= {int(t["id"]): t["content"] for t in values.get("added_tokens") or ()}
            else:
                tokens = values.get("added_tokens_decoder") or {}
                found |= {int(token_id): token["content"] for token_id, token in tokens.items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                folder / name, f"added tokens of another form ({error!r})", "ids and their texts"
            ) from error
    return found


def write_hugging_face(folder: pathlib.Path, checkpoint: Checkpoint) -> None:
    """Writes `config.json`, `generation_config.json` and `model.safetensors`.

    Raises:
        InputError: Hugging Face's T5 has no feed-forward layer with these activations.
    """
    names, config = hugging_face_names(checkpoint.config), checkpoint.config
    feed_forward = {activations: name for name, activations in _FEED_FORWARD.items()}
    if config.mlp_activations not in feed_forward:
        raise InputError(
            "mlp_activations",
            config.mlp_activations,
            f"one that Hugging Face's T5 has: {', '.join(map(str, feed_forward))}",
        )
    special = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    write_json(
        folder / "config.json",
        {
            "architectures": ["T5ForConditionalGeneration"],
            "model_type": "t5",
            "is_encoder_decoder": True,
            "vocab_size": checkpoint.rows,
            **{theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()},
            "feed_forward_proj": feed_forward[config.mlp_activations],
            "layer_norm_epsilon": 1e-6,
            "tie_word_embeddings": config.logits_via_embedding,
            **special,
        },
    )
    write_json(folder / "generation_config.json", special)
    weights = {names[name]: turned(name, leaf) for name, leaf in checkpoint.params.items()}
    safetensors.numpy.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def read_weights(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads all tensors of a folder, from one file or from several with an index."""
    if (folder / WEIGHTS).exists():
        return _read_safetensors(folder / WEIGHTS)
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict):
        raise InputError(folder / INDEX, "no weight_map", "a file for each parameter")
    shards = {file: _read_safetensors(folder / file) for file in sorted(set(places.values()))}
    for name, file in places.items():
        if name not in shards[file]:
            raise InputError(folder / file, f"no parameter {name}", f"it, as {INDEX} says")
    return {name: shards[file][name] for name, file in places.items()}


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except OSError as error:
        raise InputError(
            path, f"no readable file ({error.strerror or error})", "a safetensors file"
        ) from error
    except safetensors.SafetensorError as error:
        raise InputError(path, f"a damaged file ({error})", "a whole safetensors file") from error


def _settle_logits(
    weights: dict[str, np.ndarray], values: Mapping[str, Any], folder: pathlib.Path
) -> bool:
    """Returns whether the logits use the embedding; if not, `weights` hold a kernel for them.

    T5 1.0 divides by the square root of the width and has one matrix for embedding and logits; T5
    1.1 and mT5 do neither. One matrix without the division is the same as two equal ones.
    """
    # `scale_decoder_outputs` is new in transformers 5; before, `tie_word_embeddings` said it too.
    tied = values.get("tie_word_embeddings", True)
    scaled = values["model_type"] == "t5" and values.get("scale_decoder_outputs", tied)
    if not scaled:
        if _EMBEDDING in weights:
            weights.setdefault(_LOGITS, weights[_EMBEDDING])
        return False
    kernel, embedding = weights.pop(_LOGITS, None), weights.get(_EMBEDDING)
    if kernel is not None and embedding is not None and not np.array_equal(kernel, embedding):
        raise InputError(
            folder,
            f"{_LOGITS} unlike {_EMBEDDING} and tie_word_embeddings true",
            "two equal matrices, or tie_word_embeddings false",
        )
    return True


def _parse_config(
    values: Mapping[str, Any], logits_via_embedding: bool, path: pathlib.Path
) -> T5Config:
    """Returns the network of a `config.json`; missing fields take Hugging Face's defaults."""
    defaults = {
        "num_decoder_layers": values.get("num_layers"),
        "dropout_rate": 0.1,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
    }
    values = {"feed_forward_proj": "relu", "layer_norm_epsilon": 1e-6, **defaults, **values}
    for name in _FIELDS.values():
        if not isinstance(values.get(name), int | float):
            raise InputError(path, f"{name} = {values.get(name)!r}", "a number")
    if values["feed_forward_proj"] not in _FEED_FORWARD:
        raise InputError(
            path,
            f"feed_forward_proj {values['feed_forward_proj']!r}",
            f"one of {', '.join(_FEED_FORWARD)}",
        )
    if values["layer_norm_epsilon"] != 1e-6:
        raise InputError(path, f"layer_norm_epsilon {values['layer_norm_epsilon']}", 1e-6)
    return T5Config(
        **{ours: values[theirs] for ours, theirs in _FIELDS.items()},
        mlp_activations=_FEED_FORWARD[values["feed_forward_proj"]],
        logits_via_embedding=logits_via_embedding,
    )
