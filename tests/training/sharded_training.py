"""Twenty steps of stage 1 on the devices there are; run as a script by test_sharding.py.

python sharded_training.py OUTPUT.npz [PORT PROCESSES PROCESS]
"""

import pathlib
import sys

import jax

if len(sys.argv) > 2:
    port, processes, process = map(int, sys.argv[2:])
    jax.distributed.initialize(f"localhost:{port}", processes, process)

import jax.numpy as jnp
import numpy as np
import optax

from catid2_jax.models.rqvae import RQVAE
from catid2_jax.ops.kmeans import kmeans
from catid2_jax.schemes.quantized import residual_kmeans
from catid2_jax.schemes.rqvae.evaluation import corpus_latents, make_rqvae_evaluator
from catid2_jax.schemes.rqvae.reseeding import make_reseeding_hook
from catid2_jax.schemes.rqvae.step import RQVAEData, initialize_codebooks, make_rqvae_step
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.training.sharding import data_mesh, place
from tests.plain import plain_rqvae, plain_weights

WEIGHTS = plain_weights(reconstruction=0.5, hierarchical_class=0.1, cluster_scale=1.0)
CONFIG = plain_rqvae(levels=3, codebook_size=16, category_levels=2, latent_dim=8, hidden_dims=(32,))


def main(output: pathlib.Path) -> None:
    generator = np.random.default_rng(0)
    leaf = generator.integers(0, 12, 320)
    categories = np.stack([leaf // 4, np.where(leaf % 5, leaf, -1)], axis=1).astype(np.int32)
    embeddings = generator.normal(size=(320, 24)) + 2 * generator.normal(size=(12, 24))[leaf]
    data = RQVAEData(embeddings.astype(np.float32), categories)
    training = TrainingConfig(batch_size=160, epochs=10, evaluate_every=10, steps_per_dispatch=5)
    sampler = EpochSampler(320, training.batch_size, 0, jax.device_count())
    model = RQVAE(CONFIG, 24)
    params = model.init(jax.random.key(0), jnp.zeros((1, 24)))["params"]
    latents = corpus_latents(model, params, data.embeddings)
    params = initialize_codebooks(params, latents, jax.random.key(1))

    results = {"codebooks": params["quantizer"]["codebooks"]}
    with jax.set_mesh(data_mesh()):
        points = generator.normal(size=(9001, 4)).astype(np.float32)
        results["kmeans"] = kmeans(place(points, data_mesh()), 32, jax.random.key(2))
    balanced = residual_kmeans(points[:9000], 2, 8, jax.random.key(2), balanced=True)
    results |= {"balanced": balanced.codebooks, "balanced_codes": balanced.nearest}

    # Gradient descent at rate 1 leaves the gradient in the difference of the parameters.
    one = TrainingConfig(batch_size=160, epochs=1, checkpoint_every=1)
    descent = optax.sgd(1.0)
    step = make_rqvae_step(model, descent, WEIGHTS)
    shares = []

    def watched(state, batch):
        jax.debug.inspect_array_sharding(
            batch.embeddings, callback=lambda s: shares.append(s.shard_shape((160, 24))[0])
        )
        return step(state, batch)

    with Checkpoints(output.parent / "one") as checkpoints:
        state = TrainState(jnp.int32(0), params, descent.init(params))
        half = EpochSampler(160, 160, 0, jax.device_count())
        after = train(watched, state, data, half, one, checkpoints, "one step")
    results["rows_per_device"] = np.array(shares[0])
    gradients = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), params, after.params)

    optimizer = make_optimizer(training, 20)
    step = make_rqvae_step(model, optimizer, WEIGHTS)
    evaluator = make_rqvae_evaluator(model, data, WEIGHTS, seed=0)
    reseed = make_reseeding_hook(model, optimizer, data.embeddings, seed=0)
    losses = []

    def recorded(state):
        figures = evaluator(state)
        losses.append(figures["quantization_error/level_3"])
        return figures

    with Checkpoints(output.parent / "twenty", "collision_rate", "min") as checkpoints:
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        state = train(
            step, state, data, sampler, training, checkpoints, "twenty", recorded,
            after_evaluation=reseed,
        )  # fmt: skip
    results["errors"] = np.array(losses)
    for name, tree in (("gradient", gradients), ("parameter", state.params)):
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            results[name + jax.tree_util.keystr(path)] = leaf
    if jax.process_index() == 0:
        np.savez(output, **{name: np.asarray(value) for name, value in results.items()})


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
