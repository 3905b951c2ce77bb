"""What the programs on devices need as a catalogue grows, as XLA says, without running them.

    python benchmarks/scaling.py collectives --devices 1 2 4 8
    python benchmarks/scaling.py shapes --documents 10000000 100000000 1000000000

`collectives` compiles a training step of both stages for 1, 2, 4 and 8 simulated devices, each with
as many rows (weak scaling), and counts the collectives in the HLO. `shapes` compiles what runs on
a device, for a catalogue of each size, without running it: its arguments, temporaries and
operations by XLA's own analyses. With --tiny the shapes are those of a test. Prints Markdown.
"""

import argparse
import collections
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

# What is compiled here never runs, so LLVM need not optimise it; XLA's own passes are as ever.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from catid2_jax.decoding.trie import Trie, _capacity
from catid2_jax.docids.collisions import _CELLS_AT_ONCE, CollisionConfig, _potentials
from catid2_jax.encoders.t5 import mean_of_states
from catid2_jax.losses import LossWeights
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.shapes import SHAPES
from catid2_jax.ops.kmeans import kmeans
from catid2_jax.ops.mesh import DATA_AXIS, MODEL_AXIS
from catid2_jax.schemes.rqvae.step import RQVAEData, make_rqvae_step
from catid2_jax.seq2seq.config import Seq2SeqObjective
from catid2_jax.seq2seq.decoder import T5Decoder
from catid2_jax.seq2seq.search import retrieve
from catid2_jax.seq2seq.step import Seq2SeqBatch, Seq2SeqData, make_seq2seq_step
from catid2_jax.training.loop import TrainState
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer

LEVELS, K, WIDTH, SOURCE, BEAMS = 4, 256, 768, 32, 100
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


def array(*shape: int, of: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """The shape of an array that is not there."""
    return jax.ShapeDtypeStruct(shape, of)


def rqvae(tiny: bool) -> tuple[RQVAE, int]:
    """Stage 1's network as it is by default, and the width of the embeddings."""
    if tiny:
        return RQVAE(RQVAEConfig(codebook_size=8, latent_dim=4, hidden_dims=(8,)), 8), 8
    return RQVAE(RQVAEConfig(), WIDTH), WIDTH


def rqvae_step(tiny: bool) -> tuple[Any, Any]:
    """(step, state) of stage 1, the state as shapes."""
    model, width = rqvae(tiny)
    optimizer = make_optimizer(TrainingConfig(), 10)

    def start() -> TrainState:
        params = model.init(jax.random.key(0), jnp.zeros((1, width)))["params"]
        return TrainState(jnp.int32(0), params, optimizer.init(params))

    return make_rqvae_step(model, optimizer, LossWeights()), jax.eval_shape(start)


def rqvae_rows(rows: int, tiny: bool) -> RQVAEData:
    """Documents of stage 1, with the vectors of their queries."""
    model, width = rqvae(tiny)
    categories = array(rows, model.config.category_levels, of=jnp.int32)
    vectors = array(rows, width)
    return RQVAEData(vectors, categories, vectors, array(rows, of=jnp.bool_))


def decoder_of(tiny: bool) -> T5Decoder:
    """T5 1.1 base, or a tiny one, with four levels of codes."""
    if tiny:
        config = T5Config(8, 8, 2, 16, 1, 1)
        return T5Decoder(config, 64 + LEVELS * 8, 64, LEVELS, 8)
    config = dataclasses.replace(SHAPES["t5_1_1_base"].config, dtype="bfloat16")
    return T5Decoder(config, 33_152, 33_152 - LEVELS * K, LEVELS, K)


def seq2seq_step(tiny: bool) -> tuple[Any, Any]:
    """(step, state) of stage 2, the state as shapes."""
    decoder, optimizer = decoder_of(tiny), make_optimizer(TrainingConfig(), 10)

    def start() -> TrainState:
        params = decoder.initialize(jax.random.key(0), array(SOURCE, of=jnp.int32))
        return TrainState(jnp.int32(0), params, optimizer.init(params))

    return make_seq2seq_step(decoder, optimizer, Seq2SeqObjective(), 0), jax.eval_shape(start)


def seq2seq_rows(rows: int) -> Seq2SeqBatch:
    """Pairs of stage 2."""
    sources, targets = array(rows, SOURCE, of=jnp.int32), array(rows, LEVELS, of=jnp.int32)
    return Seq2SeqBatch(sources, targets, array(rows))


def compiled_step(step: Any, state: Any, batch: Any, devices: int) -> Any:
    """A step as the loop compiles it: the state on every device, the rows of the batch divided."""
    chosen, names = jax.devices()[:devices], (DATA_AXIS, MODEL_AXIS)
    types = (AxisType.Auto, AxisType.Auto)
    mesh: Mesh = jax.make_mesh((devices, 1), names, axis_types=types, devices=chosen)

    def placed(tree: Any, spec: PartitionSpec) -> Any:
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

    whole = NamedSharding(mesh, PartitionSpec())
    with jax.set_mesh(mesh):
        run = jax.jit(step, donate_argnums=0, out_shardings=(whole, whole))
        return run.lower(placed(state, PartitionSpec()), placed(batch, PartitionSpec(DATA_AXIS)))


def collectives(counts: Sequence[int], tiny: bool) -> None:
    """The table of the collectives of both steps, by the number of devices."""
    kinds = " | ".join(f"{kind}: number | bytes" for kind in KINDS)
    print(f"| step | rows of a device | devices | parameters, bytes | {kinds} |")
    print("|---" * (4 + 2 * len(KINDS)) + "|", flush=True)
    for name, (step, state), rows_of, rows in (
        ("RQ-VAE", rqvae_step(tiny), functools.partial(rqvae_rows, tiny=tiny), 8 if tiny else 512),
        ("seq2seq", seq2seq_step(tiny), seq2seq_rows, 4 if tiny else 8),
    ):
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.params))
        for devices in counts:
            lowered = compiled_step(step, state, rows_of(devices * rows), devices)
            found = collectives_in(lowered.compile().as_text())
            cells = [f"{n} | {b:,}" for n, b in (found.get(kind, (0, 0)) for kind in KINDS)]
            print(f"| {name} | {rows} | {devices} | {size:,} | {' | '.join(cells)} |", flush=True)


def shapes(sizes: Sequence[int], tiny: bool) -> None:
    """The tables of what XLA says of programs that grow with the catalogue, and of the others."""
    print("| program | documents | arguments, GB | temporaries, GB | GFLOP |")
    print("|---" * 5 + "|", flush=True)
    for name, program in FIXED.items():
        _analysis(name, "any", program(tiny))
    for documents in sizes:
        for name, growing in GROWING.items():
            _analysis(name, f"{documents:,}", growing(documents, tiny))


def _analysis(name: str, documents: str, lowered: Any) -> None:
    """Compiles a program and prints its row."""
    compiled = lowered.compile()
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes / 1e9
    operations = compiled.cost_analysis()["flops"] / 1e9
    print(
        f"| {name} | {documents} | {held:.3f} | {memory.temp_size_in_bytes / 1e9:.3f} | "
        f"{operations:,.1f} |",
        flush=True,
    )


def _embedding(tiny: bool) -> Any:
    """A batch of the encoder of T5 1.1 base."""
    decoder = decoder_of(tiny)
    source = array(SOURCE, of=jnp.int32)
    params = jax.eval_shape(functools.partial(decoder.initialize, source=source), _key())
    used = {name: params[name] for name in ("token_embedder", "encoder")}
    rows, width = (4, 16) if tiny else (128, 128)
    tokens = array(rows, width, of=jnp.int32)
    network = dataclasses.replace(
        decoder, config=dataclasses.replace(decoder.config, dtype="float32")
    ).network
    return mean_of_states.lower(network, used, tokens, array(rows, of=jnp.int32))


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def _encoding(tiny: bool) -> Any:
    """E of a batch of embeddings, as the corpus is encoded."""
    model, width = rqvae(tiny)
    params = rqvae_step(tiny)[1].params
    encode = functools.partial(model.apply, method=RQVAE.encode)
    return jax.jit(encode).lower({"params": params}, array(8 if tiny else 4096, width))


def _sinkhorn(tiny: bool) -> Any:
    """Sinkhorn over as many groups of colliding documents as are in memory at once."""
    codes = 8 if tiny else K
    groups = 2 if tiny else _CELLS_AT_ONCE // K**2
    config = CollisionConfig()
    return _potentials.lower(
        array(groups, codes, codes),
        array(groups, codes),
        array(groups, codes),
        epsilon=config.sinkhorn_epsilon,
        iterations=config.sinkhorn_iterations,
    )


def _rqvae_streamed(tiny: bool) -> Any:
    step, state = rqvae_step(tiny)
    return compiled_step(step, state, rqvae_rows(8 if tiny else 4096, tiny), 1)


def _seq2seq_streamed(tiny: bool) -> Any:
    step, state = seq2seq_step(tiny)
    return compiled_step(step, state, seq2seq_rows(4 if tiny else 64), 1)


def _resident(step: Any, state: Any, data: Any, batch: int) -> Any:
    """A step on data that lie on the device."""

    def run(state: TrainState, data: Any, indices: jax.Array) -> Any:
        return step(state, data.batch(indices))

    return jax.jit(run, donate_argnums=0).lower(state, data, array(batch, of=jnp.int32))


def _rqvae_resident(documents: int, tiny: bool) -> Any:
    return _resident(*rqvae_step(tiny), rqvae_rows(documents, tiny), 8 if tiny else 4096)


def _seq2seq_resident(documents: int, tiny: bool) -> Any:
    """A pair of each product's title and its ID."""
    rows = seq2seq_rows(documents)
    number = array(documents, of=jnp.int32)
    data = Seq2SeqData(rows.sources, rows.targets, number, number, rows.weight)
    return _resident(*seq2seq_step(tiny), data, 4 if tiny else 64)


def _kmeans(documents: int, tiny: bool) -> Any:
    """The start of a level's codebook."""
    config = rqvae(tiny)[0].config
    return kmeans.lower(array(documents, config.latent_dim), config.codebook_size, _key())


def trie_of(documents: int, codes: int) -> Trie:
    """The shapes of the trie of as many IDs, drawn at random."""
    nodes = [codes ** (level + 1) for level in range(LEVELS)]
    # Of n cells, N documents at random fill n (1 - exp(-N / n)); IDs are unique.
    edges = [round(-n * np.expm1(-documents / n)) for n in nodes[:-1]] + [documents]
    capacity = [_capacity(count) for count in edges]
    return Trie(
        codes=tuple(array(count, of=np.min_scalar_type(codes - 1)) for count in capacity),  # type: ignore[misc]
        offsets=tuple(array(count + 1, of=jnp.int32) for count in (1, *capacity[:-1])),  # type: ignore[misc]
        documents=array(capacity[-1], of=jnp.int32),  # type: ignore[arg-type]
        codebook_size=codes,
        max_children=(codes,) * LEVELS,
    )


def _search(documents: int, tiny: bool) -> Any:
    """Retrieval by T5 1.1 base, batch 64 and 100 beams."""
    decoder, beams = decoder_of(tiny), 4 if tiny else BEAMS

    def run(params: Any, sources: jax.Array, trie: Trie) -> Any:
        return retrieve(decoder, params, sources, trie, beams, beams, normalize_over="level")

    params = seq2seq_step(tiny)[1].params
    sources = array(2 if tiny else 64, SOURCE, of=jnp.int32)
    return jax.jit(run).lower(params, sources, trie_of(documents, decoder.codebook_size))


FIXED: dict[str, Callable[[bool], Any]] = {
    "embedding, a batch of 16,384 tokens": _embedding,
    "RQ-VAE step, streamed, 4,096 documents": _rqvae_streamed,
    "encoding 4,096 documents": _encoding,
    "Sinkhorn, all that is in memory at once": _sinkhorn,
    "seq2seq step, streamed, 64 pairs": _seq2seq_streamed,
}
GROWING: dict[str, Callable[[int, bool], Any]] = {
    "RQ-VAE step, data on the device": _rqvae_resident,
    "k-means of a level": _kmeans,
    "seq2seq step, data on the device": _seq2seq_resident,
    "search, 64 queries": _search,
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("collectives", "shapes"))
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--documents", type=int, nargs="+", default=[10**7, 10**8, 10**9])
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    if arguments.part == "collectives":
        jax.config.update("jax_num_cpu_devices", max(arguments.devices))
        collectives(arguments.devices, arguments.tiny)
    else:
        shapes(arguments.documents, arguments.tiny)


if __name__ == "__main__":
    main()
