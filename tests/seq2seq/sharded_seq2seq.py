"""Stage 2 on meshes of the devices there are; run as a script by test_sharded_seq2seq.py.

python sharded_seq2seq.py OUTPUT.npz MODEL_DEVICES,... RUN,... [PORT PROCESSES PROCESS]
"""

import dataclasses
import pathlib
import sys

import jax

if len(sys.argv) > 4:
    port, processes, process = map(int, sys.argv[4:])
    jax.distributed.initialize(f"localhost:{port}", processes, process)

import jax.numpy as jnp
import numpy as np
import optax

from catid2_jax.docids.table import DocidTable
from catid2_jax.docids.vocabulary import Vocabulary, train_vocabulary
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.sharding import partition_specs
from catid2_jax.ops.mesh import DATA_AXIS
from catid2_jax.seq2seq.config import DevEvaluationConfig, Seq2SeqObjective
from catid2_jax.seq2seq.decoder import make_decoder
from catid2_jax.seq2seq.evaluation import make_recall_evaluator
from catid2_jax.seq2seq.step import Seq2SeqData, make_seq2seq_step
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.training.sharding import data_mesh

# 128 wide, since Adafactor factors the moments of parameters from there on.
CONFIG = T5Config(
    emb_dim=128,
    num_heads=8,
    head_dim=4,
    mlp_dim=16,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dropout_rate=0.1,
)
OBJECTIVE = Seq2SeqObjective(
    source_dropout=0.3,
    position_weights=(1.0, 0.5, 0.25),
    label_smoothing=0.1,
    z_loss=1e-3,
    microbatches=2,
)
WORDS = ("red", "blue", "steel", "oak", "lamp", "shoe", "kettle", "chair", "small", "large")
PAIRS = 64


def examples(folder: pathlib.Path) -> tuple[Vocabulary, DocidTable, Seq2SeqData]:
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, generator.integers(1, 5))) for _ in range(PAIRS)]
    path = folder / f"vocabulary.{jax.process_index()}.model"
    path.write_bytes(train_vocabulary(texts * 4, 60))
    vocabulary = Vocabulary(path, levels=3, codebook_size=4)
    codes = np.stack(np.unravel_index(generator.permutation(64)[:24], (4, 4, 4)), axis=1)
    table = DocidTable([f"p{n}" for n in range(24)], codes.astype(np.int32))
    data = Seq2SeqData(
        vocabulary.encode(texts, 6),
        vocabulary.encode_codes(codes),
        np.arange(PAIRS, dtype=np.int32),
        generator.integers(0, 24, PAIRS).astype(np.int32),
        generator.choice([1.0, 0.5], PAIRS).astype(np.float32),
    )
    return vocabulary, table, data


def main(output: pathlib.Path, model_devices: list[int], names: list[str]) -> None:
    vocabulary, table, data = examples(output.parent)
    decoder = make_decoder("t5", CONFIG, vocabulary)
    params = decoder.initialize(jax.random.key(0), jax.ShapeDtypeStruct((1,), jnp.int32))
    results = {}
    for count in model_devices:
        folder = output.parent / str(count)
        found = run(folder, decoder, params, table, data, count, names)
        results |= {f"{count} {name}": np.asarray(value) for name, value in found.items()}
    if jax.process_index() == 0:
        np.savez(output, **results)


def run(folder, decoder, params, table, data, model_devices, names):
    """What is to be alike on every mesh, by name."""
    mesh = data_mesh(model_devices)
    qrels = {f"q{n}": {f"p{data.document[n]}": 3} for n in range(10)}
    evaluator = make_recall_evaluator(
        decoder, table, data.sources[:10], qrels, DevEvaluationConfig(10, 8, "full", (1, 5)), "full"
    )
    results = {}

    def recorded(state):
        figures = evaluator(state)
        results[f"recall {int(state.step)}"] = list(figures.values())
        return figures

    # Gradient descent at rate 1 leaves the gradient in the difference of the parameters.
    runs = {
        "gradient": (optax.sgd(1.0), 1, None),
        "level": (optax.sgd(1.0), 1, None),
        "adamw": (make_optimizer(TrainingConfig(max_gradient_norm=1.0), 8), 8, None),
        "adafactor": (make_optimizer(TrainingConfig(optimizer="adafactor"), 8), 8, recorded),
    }
    for name in names:
        optimizer, steps, evaluate = runs[name]
        training = TrainingConfig(
            batch_size=16, epochs=-(-steps // 4), steps_per_dispatch=4, evaluate_every=4
        )
        # Enough for any texts that a device may have of a microbatch.
        rows = 16 // (mesh.shape[DATA_AXIS] * OBJECTIVE.microbatches)
        longest = np.sort(np.sum(data.sources != 0, axis=1))[-rows:]
        data = data.replace(packed_tokens=int(longest.sum()), ends=name == "level")
        over = "level" if name == "level" else "full"
        objective = dataclasses.replace(OBJECTIVE, normalize_over=over)
        sampler = EpochSampler(PAIRS if steps > 1 else 16, 16, 0, mesh.shape[DATA_AXIS])
        step = make_seq2seq_step(decoder, optimizer, objective, seed=0)
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        specs = partition_specs(state)
        with Checkpoints(folder / name) as checkpoints:
            after = train(
                step, state, data, sampler, training, checkpoints, name, evaluate, mesh, specs
            )
        assert int(after.step) == steps
        kernel = after.params["encoder"]["layers_0"]["mlp"]["wi_0"]["kernel"]
        results["columns_per_device"] = kernel.addressable_shards[0].data.shape[1]
        # Whole on every device, so that each process has all of it.
        whole = jax.jit(lambda tree: tree, out_shardings=jax.NamedSharding(mesh, jax.P()))
        leaves = jax.tree.map(np.asarray, whole(after.params))
        if steps == 1:
            leaves = jax.tree.map(lambda a, b: np.asarray(a) - b, params, leaves)
        for path, leaf in jax.tree_util.tree_flatten_with_path(leaves)[0]:
            results[name + jax.tree_util.keystr(path)] = leaf
    return results


if __name__ == "__main__":
    main(
        pathlib.Path(sys.argv[1]), [int(n) for n in sys.argv[2].split(",")], sys.argv[3].split(",")
    )
