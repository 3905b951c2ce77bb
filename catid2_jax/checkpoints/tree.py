"""A T5 as all file formats are read into: its parameters under T5X's names."""

import dataclasses
import functools
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer

EMBEDDING = "token_embedder/embedding"
LOGITS = "decoder/logits_dense/kernel"

Parameters = Mapping[str, np.ndarray]
"""Parameters by T5X's names, such as `encoder/layers_0/attention/query/kernel`."""


@dataclasses.dataclass(frozen=True)
class IdTokens:
    """Where the ID tokens lie in a vocabulary.

    Attributes:
        first: id of level 0's code 0.
        levels: L.
        codebook_size: K.
    """

    first: int
    levels: int
    codebook_size: int


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A T5 and what is known of it.

    Attributes:
        params: its parameters.
        config: its shape.
        step: steps it was trained for.
        id_tokens: those that it has learnt; None if it has none, or the files do not say.
        vocabulary: its SentencePiece model, if that lies with it.
    """

    params: Parameters
    config: T5Config
    step: int = 0
    id_tokens: IdTokens | None = None
    vocabulary: pathlib.Path | None = None

    @property
    def rows(self) -> int:
        """Rows of the embedding, V."""
        return self.params[EMBEDDING].shape[0]


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves of nested dictionaries by `a/b/c`."""
    return flax.traverse_util.flatten_dict(tree, sep="/")


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    return flax.traverse_util.unflatten_dict(dict(leaves), sep="/")


@functools.lru_cache(maxsize=8)
def parameter_shapes(config: T5Config, rows: int) -> Mapping[str, tuple[int, ...]]:
    """The shape of every parameter of a network."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    init = Transformer(config, rows).init
    shapes = jax.eval_shape(init, jax.random.key(0), tokens, tokens == 0, tokens)["params"]
    return {name: leaf.shape for name, leaf in flatten(shapes).items()}


def check_parameters(params: Parameters, config: T5Config, rows: int, where: object) -> None:
    """Checks that parameters are those of a network.

    Args:
        params: what was found.
        config: the network.
        rows: of its vocabulary.
        where: named in the error.

    Raises:
        InputError: a leaf is missing, too many, or of another shape (it and both shapes), or not
            finite.
    """
    expected = parameter_shapes(config, rows)
    found = {name: leaf.shape for name, leaf in params.items()}
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            raise InputError(
                f"{where}: found {name} of shape {found.get(name, 'none')}, expected "
                f"{expected.get(name, 'none')}"
            )
        if not np.isfinite(params[name]).all():
            raise InputError(f"{where}: found NaN or infinity in {name}, expected finite numbers")


def infer_config(params: Parameters, where: object) -> T5Config:
    """The network that parameters belong to, as far as their shapes say.

    Two kernels before the feed-forward layer's last are taken for GEGLU (T5 1.1), one for ReLU (T5
    1.0), and far positions for T5's 128.

    Raises:
        InputError: a leaf is missing that says it.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in params or params[name].ndim != 2:
            raise InputError(
                f"{where}: found no {name} of two dimensions, expected the parameters of a T5 as "
                "t5x/examples/t5 has them"
            )
        return params[name].shape

    def layers(stack: str) -> int:
        return len({m[0] for name in params if (m := re.match(rf"{stack}/layers_\d+/", name))})

    heads, buckets = shape("encoder/relpos_bias/rel_embedding")
    gated = "encoder/layers_0/mlp/wi_0/kernel" in params
    return T5Config(
        emb_dim=shape(EMBEDDING)[1],
        num_heads=heads,
        head_dim=shape("encoder/layers_0/attention/query/kernel")[1] // heads,
        mlp_dim=shape(f"encoder/layers_0/mlp/{'wi_0' if gated else 'wi'}/kernel")[1],
        num_encoder_layers=layers("encoder"),
        num_decoder_layers=layers("decoder"),
        mlp_activations=("gelu", "linear") if gated else ("relu",),
        logits_via_embedding=LOGITS not in params,
        relative_attention_num_buckets=buckets,
    )


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object of a file that describes a checkpoint.

    Raises:
        InputError: no such file, or something else in it.
    """
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: found no JSON, expected a JSON object") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: found no JSON object, expected one")
    return values
