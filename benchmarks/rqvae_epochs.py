"""Stage 1 at the paper's size on one accelerator: seconds for 300 epochs, and share of the ceiling.

    python benchmarks/rqvae_epochs.py [--dtype bfloat16] [--documents 386392] [--epochs 300]

386,392 synthetic documents of width 768 with three category levels, every loss of CAT-ID2, batch
4,096, through the training loop that `train` uses: the corpus on the device, many steps per
dispatch, a checkpoint at the end. The ceiling is what a product of two 8,192 x 8,192 matrices
reaches here in the same type and run; the work counted is that of the MLP's products (six per
weight and document) and of L_Dis's two.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.losses import LossWeights
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig
from catid2_jax.schemes.rqvae.step import RQVAEData, make_rqvae_step
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer
from catid2_jax.training.sampler import EpochSampler

WIDTH, LEAVES = 768, 600


def corpus(documents: int) -> RQVAEData:
    """Synthetic vectors around the leaves, and categories of three levels."""
    generator = np.random.default_rng(0)
    leaves = generator.integers(0, LEAVES, documents)
    centers = generator.standard_normal((LEAVES, WIDTH), np.float32)
    vectors = centers[leaves] + generator.standard_normal((documents, WIDTH), np.float32)
    categories = np.stack([leaves // 20, leaves // 4 + 30, leaves + 180], axis=1)
    return RQVAEData(vectors / np.float32(2**0.5), categories.astype(np.int32))


def ceiling(dtype: str, size: int) -> float:
    """Floating-point operations per second of a square product, the median of ten."""
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds)


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--documents", type=int, default=386_392)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--ceiling", type=int, default=8192)
    arguments = parser.parse_args()
    config = TrainingConfig(epochs=arguments.epochs, steps_per_dispatch=94, checkpoint_every=10**9)
    shape = dataclasses.replace(RQVAEConfig(), dtype=arguments.dtype)
    model, data = RQVAE(shape, WIDTH), corpus(arguments.documents)
    sampler = EpochSampler(arguments.documents, config.batch_size, 0, jax.device_count())
    steps = config.epochs * sampler.steps_per_epoch
    optimizer = make_optimizer(config, steps)
    step = make_rqvae_step(model, optimizer, LossWeights())
    params = model.init(jax.random.key(0), jnp.zeros((1, WIDTH)))["params"]
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    with tempfile.TemporaryDirectory() as place, Checkpoints(place) as checkpoints:
        start = time.perf_counter()
        train(step, state, data, sampler, config, checkpoints, "training")
        seconds = time.perf_counter() - start
    weights = sum(leaf.size for leaf in jax.tree.leaves((params["encoder"], params["decoder"])))
    batch = sampler.batch_size
    work = 6 * weights * batch + 2 * 2 * batch**2 * WIDTH
    rate, most = steps * work / seconds, ceiling(arguments.dtype, arguments.ceiling)
    print(
        f"{jax.devices()[0].device_kind}, {arguments.dtype}: {steps:,} steps in {seconds:.1f} s "
        f"with compilation; {rate / 1e12:.3g} of {most / 1e12:.3g} Tflop/s, {rate / most:.0%}"
    )


if __name__ == "__main__":
    main()
