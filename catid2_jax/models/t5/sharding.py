"""Shards T5's parameters over the devices of the mesh (Shoeybi et al., 2020).

Heads, hidden units and the vocabulary are split, so that an attention, a feed-forward layer and the
logits need one sum over the devices each.
"""

import jax
from jax.sharding import PartitionSpec

from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.ops.mesh import MODEL_AXIS

_COLUMNS, _ROWS = PartitionSpec(None, MODEL_AXIS), PartitionSpec(MODEL_AXIS, None)

_RULES = {
    "token_embedder/embedding": _ROWS,
    "logits_dense/kernel": _COLUMNS,
    "query/kernel": _COLUMNS,
    "key/kernel": _COLUMNS,
    "value/kernel": _COLUMNS,
    "out/kernel": _ROWS,
    "wi/kernel": _COLUMNS,
    "wi_0/kernel": _COLUMNS,
    "wi_1/kernel": _COLUMNS,
    "wo/kernel": _ROWS,
}
"""A parameter's PartitionSpec by the last two names of its path."""


def partition_specs(tree: object) -> object:
    """Returns the PartitionSpec of each leaf of a training state or of parameters.

    An optimizer's moments are sharded like their parameters. A leaf without a rule, or with another
    number of axes than its parameter (Adafactor's row and column moments), is whole on every
    device.
    """

    def of_leaf(path: tuple, leaf: jax.Array) -> PartitionSpec:
        names = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
        spec = _RULES.get("/".join(names[-2:]), PartitionSpec())
        return spec if leaf.ndim == len(spec) else PartitionSpec()

    return jax.tree_util.tree_map_with_path(of_leaf, tree)


def check_divisible(config: T5Config, rows: int, model_devices: int) -> None:
    """Raises InputError unless the devices can share heads, hidden units and vocabulary evenly."""
    for name, size in (
        ("num_heads", config.num_heads),
        ("mlp_dim", config.mlp_dim),
        ("rows of the vocabulary", rows),
    ):
        if size % model_devices:
            raise InputError(name, size, f"a multiple of model_devices = {model_devices}")
