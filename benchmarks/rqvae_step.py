"""A step of stage 1 beside PyTorch's, and its cost as the catalogue grows.

    python benchmarks/rqvae_step.py [--rounds 15] [--documents 10000 100000 1000000 4000000]

The peer is the same MLP and `ResidualVQ` of vector-quantize-pytorch with codebooks learnt by
gradient, TIGER's loss and AdamW. All take turns of four steps, so that what else the machine does
falls on all; ours are one dispatch, as in training, where a step works in the memory of the last.
Ratios are of medians. Batch 4,096, D = 768, K = 256, L = 4, float32. The second table has D = 128,
since the corpora lie in memory.
"""

import argparse
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from turns import medians

from catid2_jax.losses import TIGER, LossWeights
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig
from catid2_jax.schemes.rqvae.step import RQVAEData, make_rqvae_step
from catid2_jax.training.loop import TrainState
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer

BATCH, WIDTH, LEAVES = 4096, 768, 600
STEPS = 4  # of a turn; training dispatches 16 at once
CAT_ID2 = LossWeights()
ROWS = {
    "TIGER": TIGER,
    "TIGER + L_HCC": dataclasses.replace(TIGER, hierarchical_class=CAT_ID2.hierarchical_class),
    "TIGER + L_CSC": dataclasses.replace(TIGER, cluster_scale=CAT_ID2.cluster_scale),
    "L_Dis for L_recon": dataclasses.replace(
        TIGER, reconstruction=0.0, dispersion=CAT_ID2.dispersion
    ),
    "CAT-ID2": CAT_ID2,
}


def corpus(documents: int, width: int) -> RQVAEData:
    """Synthetic vectors, and categories of three levels, 30 and 150 above 600 leaves."""
    generator = np.random.default_rng(0)
    leaves = generator.integers(0, LEAVES, documents)
    categories = np.stack([leaves // 20, leaves // 4 + 30, leaves + 180], axis=1)
    vectors = generator.standard_normal((documents, width), np.float32)
    return RQVAEData(jnp.asarray(vectors), jnp.asarray(categories, jnp.int32))


def our_steps(weights: LossWeights, data: RQVAEData) -> Callable[[], None]:
    """Steps over random batches of the corpus, which lies on the device."""
    width = data.embeddings.shape[1]
    model, optimizer = RQVAE(RQVAEConfig(), width), make_optimizer(TrainingConfig(), 10)
    params = model.init(jax.random.key(0), jnp.zeros((1, width)))["params"]
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    step = make_rqvae_step(model, optimizer, weights)
    generator = np.random.default_rng(1)

    @functools.partial(jax.jit, donate_argnums=0)  # as the training loop does
    def compiled(state, data, batches):
        return jax.lax.scan(lambda state, batch: step(state, data.batch(batch)), state, batches)

    def run() -> None:
        nonlocal state
        batches = jnp.asarray(generator.integers(0, len(data.embeddings), (STEPS, BATCH)))
        state, metrics = compiled(state, data, batches)
        jax.block_until_ready((state, metrics))

    return run


def peer_steps(data: RQVAEData) -> Callable[[], None]:
    """The same in PyTorch."""
    import torch
    from vector_quantize_pytorch import ResidualVQ

    dims = [WIDTH, *RQVAEConfig().hidden_dims, RQVAEConfig().latent_dim]

    def mlp(dims: list[int]) -> Any:
        layers: list[Any] = []
        for inputs, outputs in itertools.pairwise(dims):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])

    encoder, decoder = mlp(dims), mlp(dims[::-1])
    quantizer = ResidualVQ(
        dim=RQVAEConfig().latent_dim,
        num_quantizers=4,
        codebook_size=256,
        learnable_codebook=True,
        ema_update=False,
        commitment_weight=0.25,
    )
    parameters = [*encoder.parameters(), *decoder.parameters(), *quantizer.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-4)
    documents = torch.from_numpy(np.array(data.embeddings))

    def run() -> None:
        for _ in range(STEPS):
            embeddings = documents[torch.randint(len(documents), (BATCH,))]
            optimizer.zero_grad()
            quantized, _, commitment = quantizer(encoder(embeddings))
            reconstruction = torch.nn.functional.mse_loss(decoder(quantized), embeddings)
            (reconstruction + commitment.sum()).backward()
            optimizer.step()

    return run


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--documents", type=int, nargs="*", default=[10**4, 10**5, 10**6, 4 * 10**6]
    )
    arguments = parser.parse_args()

    data = corpus(BATCH, WIDTH)
    runs = {"ResidualVQ": peer_steps(data)}
    runs |= {name: our_steps(weights, data) for name, weights in ROWS.items()}
    seconds = medians(runs, arguments.rounds)
    print("| step | of TIGER's time |\n|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value / seconds['TIGER']:.2f} |", flush=True)

    if arguments.documents:
        runs = {f"{n:,}": our_steps(CAT_ID2, corpus(n, 128)) for n in arguments.documents}
        seconds = medians(runs, arguments.rounds)
        least = next(iter(seconds.values()))
        print("\n| documents | of the first's time per step |\n|---|---|")
        for name, value in seconds.items():
            print(f"| {name} | {value / least:.2f} |", flush=True)


if __name__ == "__main__":
    main()
