"""The form into which every file format is read: a T5's parameters under T5X's names."""

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
DECODER = "decoder/"
LOGITS = f"{DECODER}logits_dense/kernel"

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
        step: the number of steps it was trained for.
        id_tokens: where its ID tokens lie; None if it has none, or the files do not say.
        vocabulary: the SentencePiece model that lies with it; None if there is none.
        normalize_over: what a code competed with in training: the whole vocabulary ("full"), or the
            codes of its level ("level").
        token_names: names that its tokenizer gives to ids after the pieces, by id, but for those of
            ID tokens; empty if the files do not say.
    """

    params: Parameters
    config: T5Config
    step: int = 0
    id_tokens: IdTokens | None = None
    vocabulary: pathlib.Path | None = None
    normalize_over: str = "full"
    token_names: Mapping[int, str] = dataclasses.field(default_factory=dict)

    @property
    def is_encoder(self) -> bool:
        """Whether it is an encoder alone, without a decoder."""
        return not any(name.startswith(DECODER) for name in self.params)

    @property
    def rows(self) -> int:
        """Rows of the embedding, V."""
        return self.params[EMBEDDING].shape[0]


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the leaves of nested dictionaries by their paths `a/b/c`."""
    return flax.traverse_util.flatten_dict(tree, sep="/")


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Inverts `flatten`."""
    return flax.traverse_util.unflatten_dict(dict(leaves), sep="/")


@functools.lru_cache(maxsize=8)
def parameter_shapes(config: T5Config, rows: int) -> Mapping[str, tuple[int, ...]]:
    """Returns the shape of every parameter of a network."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    init = Transformer(config, rows).init
    shapes = jax.eval_shape(init, jax.random.key(0), tokens, tokens == 0, tokens)["params"]
    return {name: leaf.shape for name, leaf in flatten(shapes).items()}


def check_parameters(params: Parameters, config: T5Config, rows: int, where: object) -> None:
    """Checks that parameters are those of a network, or of its encoder alone.

    Args:
        params: the parameters found; if none is a decoder's, none has to be.
        config: the network's shape.
        rows: the number of rows of its embedding.
        where: the place that errors name.

    Raises:
        InputError: a leaf, which it names, is missing, superfluous, of another shape or not finite.
    """
    expected = parameter_shapes(config, rows)
    found = {name: leaf.shape for name, leaf in params.items()}
    if not any(name.startswith(DECODER) for name in found):
        expected = {n: shape for n, shape in expected.items() if not n.startswith(DECODER)}
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            raise InputError(
                where, f"{name} of shape {found.get(name, 'none')}", expected.get(name, "none")
            )
        if not np.isfinite(params[name]).all():
            raise InputError(where, f"NaN or infinity in {name}", "finite numbers")


def infer_config(params: Parameters, where: object) -> T5Config:
    """Infers the network that parameters belong to, as far as their shapes say.

    Two input kernels of a feed-forward layer are taken for GEGLU (T5 1.1), one for ReLU (T5 1.0);
    the distance from which positions share a bucket is taken for T5's 128.

    Raises:
        InputError: a leaf whose shape is needed is missing.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in params or params[name].ndim != 2:
            raise InputError(
                where,
                f"no {name} of two dimensions",
                "the parameters of a T5 as t5x/examples/t5 has them",
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
    """Reads the JSON object of a file that describes a checkpoint.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(path, f"no readable file ({error.strerror})", "a JSON object") from error
    except ValueError as error:
        raise InputError(path, "no JSON", "a JSON object") from error
    if not isinstance(values, dict):
        raise InputError(path, f"a JSON {type(values).__name__}", "a JSON object")
    return values
