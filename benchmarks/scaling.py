"""What the steps need as a catalogue grows: on paper by XLA, and measured on the host.

    python benchmarks/scaling.py collectives [--tiny]
    python benchmarks/scaling.py shapes [--documents 10000000 100000000 1000000000] [--tiny]
    python benchmarks/scaling.py host [--documents 10000 100000] [--encoders lsa precomputed]

`collectives` compiles a training step of both stages for 1, 2, 4 and 8 simulated devices, each with
as many rows (weak scaling), and counts the collectives in the HLO. `shapes` compiles what runs on
devices for a catalogue of each size, without running it: arguments, results and temporaries of one
device, and operations. `host` runs `prepare` and `embed` on random products, each in a process of
its own, and measures the most memory that it takes. Prints Markdown.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import functools
import multiprocessing
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from catid2_jax.decoding.trie import Trie
from catid2_jax.docids.collisions import _potentials
from catid2_jax.losses import LossWeights
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.shapes import SHAPES
from catid2_jax.models.t5.sharding import partition_specs
from catid2_jax.ops.mesh import DATA_AXIS, MODEL_AXIS
from catid2_jax.schemes.rqvae.step import RQVAEData, make_rqvae_step
from catid2_jax.seq2seq.config import Seq2SeqObjective
from catid2_jax.seq2seq.decoder import T5Decoder
from catid2_jax.seq2seq.step import Seq2SeqBatch, make_seq2seq_step
from catid2_jax.training.loop import TrainState
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer

LEVELS, K, CATEGORY_LEVELS, WIDTH = 4, 256, 3, 768
SOURCE, TEXT_ROWS = 32, 32_128
DEVICES = (1, 2, 4, 8)
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(?:-start)?\(")
_ARRAY = re.compile(r"\b(pred|[suf]\d+|bf16)\[([\d,]*)\]")


def collectives_in(hlo: str) -> dict[str, tuple[int, int]]:
    """Counts the collectives of a compiled program.

    Args:
        hlo: its text.

    Returns:
        Kind -> (number of operations, bytes of their results on one device).
    """
    found: collections.Counter[str] = collections.Counter()
    size: collections.Counter[str] = collections.Counter()
    for shapes, kind in _COLLECTIVE.findall(hlo):
        found[kind] += 1
        size[kind] += sum(_bytes(*shape) for shape in _ARRAY.findall(shapes))
    return {kind: (found[kind], size[kind]) for kind in KINDS if found[kind]}


def _bytes(element: str, shape: str) -> int:
    bits = 8 if element == "pred" else int(re.sub(r"\D", "", element))
    return int(np.prod([int(n) for n in shape.split(",") if n], dtype=np.int64)) * bits // 8


def mesh_of(devices: int, model_devices: int = 1) -> Mesh:
    """As `data_mesh`, of the first devices."""
    shape = (devices // model_devices, model_devices)
    chosen = jax.devices()[:devices]
    names = (DATA_AXIS, MODEL_AXIS)
    return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * 2, devices=chosen)


def compiled_step(step: Any, state: Any, batch: Any, mesh: Mesh, specs: Any) -> Any:
    """One step as the loop compiles it: the state by its specs, the batch over the data axis."""

    def placed(tree: Any, specs: Any) -> Any:
        return jax.tree.map(
            lambda leaf, spec: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec)
            ),
            tree,
            specs,
        )

    rows = jax.tree.map(lambda _: PartitionSpec(DATA_AXIS), batch)
    state = placed(state, specs)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    with jax.set_mesh(mesh):
        run = jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))
        return run.lower(state, placed(batch, rows)).compile()


def rqvae_step(batch: int, tiny: bool) -> tuple[Any, Any, Any]:
    """(step, state, batch) of stage 1, as shapes."""
    config, width = RQVAEConfig(), WIDTH
    if tiny:
        config = RQVAEConfig(codebook_size=8, latent_dim=4, hidden_dims=(8,))
        width = 8
    model, optimizer = RQVAE(config, width), make_optimizer(TrainingConfig(), 10)
    step = make_rqvae_step(model, optimizer, LossWeights())

    def start() -> TrainState:
        params = model.init(jax.random.key(0), jnp.zeros((1, width)))["params"]
        return TrainState(jnp.int32(0), params, optimizer.init(params))

    vectors = jax.ShapeDtypeStruct((batch, width), jnp.float32)
    data = RQVAEData(
        vectors,
        jax.ShapeDtypeStruct((batch, config.category_levels), jnp.int32),
        vectors,
        jax.ShapeDtypeStruct((batch,), jnp.bool_),
    )
    return step, jax.eval_shape(start), data


def t5_of(tiny: bool) -> tuple[T5Config, int]:
    """The shape of stage 2's network, and the rows of its vocabulary."""
    if tiny:
        return T5Config(8, 8, 2, 16, 1, 1, dropout_rate=0.0), 64 + LEVELS * 8
    return dataclasses.replace(SHAPES["t5_1_1_base"].config, dropout_rate=0.1), 33_152


def decoder_of(tiny: bool) -> T5Decoder:
    """Stage 2's network with four levels of codes."""
    config, rows = t5_of(tiny)
    codes = 8 if tiny else K
    return T5Decoder(config, rows, rows - LEVELS * codes, LEVELS, codes)


def seq2seq_step(batch: int, tiny: bool) -> tuple[Any, Any, Any]:
    """(step, state, batch) of stage 2, as shapes."""
    decoder, optimizer = decoder_of(tiny), make_optimizer(TrainingConfig(), 10)
    step = make_seq2seq_step(decoder, optimizer, Seq2SeqObjective(), 0)
    source = 8 if tiny else SOURCE

    def start() -> TrainState:
        shape = jax.ShapeDtypeStruct((source,), jnp.int32)
        params = decoder.initialize(jax.random.key(0), shape)
        return TrainState(jnp.int32(0), params, optimizer.init(params))

    data = Seq2SeqBatch(
        jax.ShapeDtypeStruct((batch, source), jnp.int32),
        jax.ShapeDtypeStruct((batch, LEVELS), jnp.int32),
        jax.ShapeDtypeStruct((batch,), jnp.float32),
    )
    return step, jax.eval_shape(start), data
