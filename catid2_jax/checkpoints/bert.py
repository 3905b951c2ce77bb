"""Reads a BERT in Hugging Face's form: `config.json`, WordPiece tokens and safetensors."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.checkpoints.huggingface import INDEX, WEIGHTS, read_weights
from catid2_jax.checkpoints.tree import flatten, read_json, unflatten
from catid2_jax.checkpoints.wordpiece import TOKENIZER, read_tokenizer
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write
from catid2_jax.models.bert import Bert, BertConfig

CONFIG = "config.json"

_FIXED: Mapping[str, Any] = {
    "hidden_act": "gelu",  # the exact one
    "position_embedding_type": "absolute",
    "is_decoder": False,
}
"""The value of fields of `config.json` that `BertConfig` lacks; they may be missing there."""

_OUTSIDE_LAYERS: Mapping[str, str] = {
    "word_embeddings": "embeddings.word_embeddings",
    "position_embeddings": "embeddings.position_embeddings",
    "token_type_embeddings": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
}

_LAYER: Mapping[str, str] = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "wi": "intermediate.dense",
    "wo": "output.dense",
    "mlp_norm": "output.LayerNorm",
}


def read_bert_config(folder: str | os.PathLike[str]) -> BertConfig:
    """Reads the shape of a BERT; missing fields take Hugging Face's defaults.

    Raises:
        InputError: there is no `config.json`, it is of a network of another form, or it lacks
            sense.
    """
    path = pathlib.Path(folder) / CONFIG
    values = read_json(path)
    if values.get("model_type") != "bert":
        raise InputError(
            path,
            f"model_type {values.get('model_type')!r}",
            "'bert', the form of BERT, MiniLM, E5 and BGE (not that of RoBERTa, XLM-R or MPNet)",
        )
    for name, value in _FIXED.items():
        if values.get(name, value) != value:
            raise InputError(path, f"{name} {values[name]!r}", repr(value))
    fields = {field.name: field.type for field in dataclasses.fields(BertConfig)}
    found = {name: values[name] for name in fields if name in values}
    for name, value in found.items():
        kinds, least = (int, 1) if fields[name] is int else (int | float, 0)
        if isinstance(value, bool) or not isinstance(value, kinds) or value < least:
            kind = "an integer" if kinds is int else "a number"
            raise InputError(path, f"{name} {value!r}", f"{kind} of at least {least}")
    try:
        return BertConfig(**found)
    except InputError as error:
        raise InputError(path, f"{error.where} {error.found}", error.expected) from error


def read_bert(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the parameters of `Bert(read_bert_config(folder))`, float32.

    Parameters beside the encoder's (a pooler, a head) are left out; names may begin with `bert.`.

    Raises:
        InputError: a file or a parameter is missing, cannot be read, or is not of the shape that
            `config.json` says.
    """
    folder = pathlib.Path(folder)
    shapes = parameter_shapes(read_bert_config(folder))
    if not ((folder / WEIGHTS).is_file() or (folder / INDEX).is_file()):
        raise InputError(folder, f"no {WEIGHTS}", "the weights in that form")
    names = {hugging_face_name(name): name for name in shapes}
    weights = {_modern(name): leaf for name, leaf in read_weights(folder).items()}
    for name in (n for n in weights if n.startswith("encoder.layer.") and n not in names):
        raise InputError(folder, f"the parameter {name}", f"only those that {CONFIG} describes")
    params = {}
    for theirs, ours in names.items():
        if theirs not in weights:
            raise InputError(folder, f"no parameter {theirs}", f"it, as {CONFIG} says")
        leaf, is_kernel = weights[theirs], ours.endswith("/kernel")
        expected = shapes[ours][::-1] if is_kernel else shapes[ours]
        if leaf.shape != expected:
            raise InputError(
                folder, f"{theirs} of shape {leaf.shape}", f"{expected}, as {CONFIG} says"
            )
        if not np.isfinite(leaf).all():
            raise InputError(folder, f"NaN or infinity in {theirs}", "finite numbers")
        params[ours] = np.ascontiguousarray(leaf.T if is_kernel else leaf, np.float32)
    return unflatten(params)


def parameter_shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every parameter, by its path."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    shapes = jax.eval_shape(Bert(config).init, jax.random.key(0), tokens, tokens == 0)["params"]
    return {name: leaf.shape for name, leaf in flatten(shapes).items()}


def hugging_face_name(name: str) -> str:
    """Returns Hugging Face's name of a parameter; its kernels are the transposes of ours."""
    module, _, leaf = name.rpartition("/")
    layer = re.fullmatch(r"layers_(\d+)/(.+)", module)
    theirs = f"encoder.layer.{layer[1]}.{_LAYER[layer[2]]}" if layer else _OUTSIDE_LAYERS[module]
    return f"{theirs}.{'bias' if leaf == 'bias' else 'weight'}"


def _modern(name: str) -> str:
    """A parameter's name without `bert.`; the oldest files have TensorFlow's names of norms."""
    name = name.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight")
    return name.replace("LayerNorm.beta", "LayerNorm.bias")


def copy_without_weights(folder: str | os.PathLike[str], target: pathlib.Path) -> None:
    """Writes `config.json` and `tokenizer.json`, which a trained network is read with.

    Raises:
        InputError: the folder lacks one, they cannot be read, or they do not go together.
    """
    folder = pathlib.Path(folder)
    config, tokenizer = read_bert_config(folder), read_tokenizer(folder)
    if tokenizer.get_vocab_size() > config.vocab_size:
        raise InputError(
            folder,
            f"a tokenizer of {tokenizer.get_vocab_size()} tokens",
            f"at most the vocab_size of {CONFIG}, {config.vocab_size}",
        )
    with atomic_write(target / TOKENIZER) as file:
        file.write(tokenizer.to_str())
    with atomic_write(target / CONFIG, "wb") as file:
        file.write((folder / CONFIG).read_bytes())
