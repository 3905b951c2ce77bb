"""A training step of stage 2 beside PyTorch's with `transformers`, on a CPU or a GPU.

    python benchmarks/seq2seq_step.py [--rounds 11]
    XLA_PYTHON_CLIENT_PREALLOCATE=false python benchmarks/seq2seq_step.py --size base \
        --batch 1024 --dtype bfloat16 --compile

The network is a T5 1.1 with random weights, 33,152 rows of embedding and of logits (T5's vocabulary
and 4 x 256 ID tokens), no dropout; 32 source tokens and 5 of the target per pair; AdamW; parameters
in float32. The peer is `T5ForConditionalGeneration`, with --compile under torch.compile, with
bfloat16 under autocast, on the GPU where torch has CUDA. Both take turns, so that what else the
machine does falls on both; ratios are of medians. MFU counts 6 operations per parameter and token
that passes it (embedding look-ups none) and attention's products, of --peak operations per second.
Beneath, on a CPU, stands how fast a bare product of the encoder's and of the logits' shape is.
"""

import argparse
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from turns import medians, product_rates

from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer
from catid2_jax.training.loop import TrainState
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer
from catid2_jax.training.seq2seq_step import Seq2SeqBatch, Seq2SeqObjective, make_seq2seq_step

ROWS, SOURCE, TARGET = 33152, 32, 5
PEAK = {"H100": 989e12, "H200": 989e12}
"""Dense bfloat16 operations per second, of NVIDIA's data sheets."""

SIZES = {
    "tiny": T5Config(32, 2, 16, 64, 1, 1),
    "small": T5Config(),
    "base": T5Config(768, 12, 64, 2048, 12, 12),
}


def random_batch(size: int) -> Seq2SeqBatch:
    """Pairs of random tokens without padding."""
    generator = np.random.default_rng(0)
    return Seq2SeqBatch(
        jnp.asarray(generator.integers(2, 32000, (size, SOURCE)), jnp.int32),
        jnp.asarray(generator.integers(32128, ROWS, (size, TARGET)), jnp.int32),
        jnp.ones(size),
    )


def our_step(config: T5Config, batch: Seq2SeqBatch) -> Callable[[], None]:
    """A step as the loop dispatches it."""
    model = Transformer(config, ROWS)
    optimizer = make_optimizer(TrainingConfig(weight_decay=0.01), 10)
    tokens = jnp.zeros((1, 1), jnp.int32)
    params = jax.jit(model.init)(jax.random.key(0), tokens, tokens == 0, tokens)["params"]
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    step = jax.jit(make_seq2seq_step(model, optimizer, Seq2SeqObjective(), 0), donate_argnums=0)

    def run() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return run


def peer_step(config: T5Config, batch: Seq2SeqBatch, compiled: bool) -> Callable[[], None]:
    """The same in PyTorch."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = transformers.T5Config(
        vocab_size=ROWS,
        d_model=config.emb_dim,
        d_kv=config.head_dim,
        d_ff=config.mlp_dim,
        num_layers=config.num_encoder_layers,
        num_decoder_layers=config.num_decoder_layers,
        num_heads=config.num_heads,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        use_cache=False,
    )
    model = transformers.T5ForConditionalGeneration(shape).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    call = torch.compile(model) if compiled else model
    tokens, labels = (
        torch.from_numpy(np.array(array)).long().to(device)
        for array in (batch.sources, batch.targets)
    )
    mask = torch.ones_like(tokens)

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            loss = call(input_ids=tokens, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def operations(config: T5Config, batch: int) -> float:
    """Floating-point operations of a step: forward, and twice that backward."""
    E, A = config.emb_dim, config.num_heads * config.head_dim
    feed_forward = (len(config.mlp_activations) + 1) * E * config.mlp_dim
    encoder = config.num_encoder_layers * SOURCE * (4 * E * A + feed_forward + 2 * SOURCE * A)
    decoder = config.num_decoder_layers * (
        TARGET * (6 * E * A + feed_forward + 2 * (TARGET + SOURCE) * A) + SOURCE * 2 * E * A
    )
    return 6.0 * batch * (encoder + decoder + TARGET * E * ROWS)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="torch.compile the peer")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--peak", type=float, default=0, help="operations per second; 0: by name")
    arguments = parser.parse_args()

    config = dataclasses.replace(SIZES[arguments.size], dtype=arguments.dtype)
    batch = random_batch(arguments.batch)
    peer = "transformers, torch.compile" if arguments.compile else "transformers, eager"
    runs = {"ours": our_step(config, batch), peer: peer_step(config, batch, arguments.compile)}
    seconds = medians(runs, arguments.rounds)
    kind = jax.devices()[0].device_kind
    peak = arguments.peak or next((v for name, v in PEAK.items() if name in kind), 0)
    total = operations(config, arguments.batch)
    print(f"T5 1.1 {arguments.size}, batch {arguments.batch}, {arguments.dtype}, {kind}")
    print(f"jax {jax.__version__}, torch {torch.__version__}, transformers", end=" ")
    print(transformers.__version__)
    print("| step | s | of our time | tokens/s | GFLOP/s | MFU |\n|---|---|---|---|---|---|")
    for name, value in seconds.items():
        tokens = arguments.batch * (SOURCE + TARGET) / value
        mfu = f"{100 * total / value / peak:.1f} %" if peak else ""
        row = f"| {name} | {value:.3f} | {value / seconds['ours']:.2f} | {tokens:,.0f} | "
        print(f"{row}{1e-9 * total / value:,.0f} | {mfu} |", flush=True)
    if jax.default_backend() == "cpu":
        print("\n| product | GFLOP/s in XLA | in PyTorch |\n|---|---|---|")
        for rows, columns in ((SOURCE, config.mlp_dim), (TARGET, ROWS)):
            shape = arguments.batch * rows, config.emb_dim, columns
            rates = product_rates(*shape)
            print(f"| {shape} | {rates['XLA']:.0f} | {rates['PyTorch']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
