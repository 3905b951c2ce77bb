"""A training step of stage 2 beside PyTorch's with `transformers`, on a CPU or a GPU.

    python benchmarks/seq2seq_step.py [--texts ../shared/data/offers] [--rounds 11]
    XLA_PYTHON_CLIENT_PREALLOCATE=false python benchmarks/seq2seq_step.py --size base \
        --batch 1024 --dtype bfloat16 --compile

The network is a T5 1.1 with random weights, 33,152 rows of embedding and of logits (T5's vocabulary
and 5 x 204 ID tokens), no dropout; 32 source tokens and 5 of the target per pair; AdamW; parameters
in float32. Ours twice: the loss over the whole vocabulary, as the peer has it, and over the codes
of each level, whose logits alone are then computed. With --texts, the same once more with sources
as long as that set's queries and titles are (SentencePiece, 4,000 pieces, cut at 32), padded to 32
here and to the longest of the batch for the peer. The tokens are random. The peer is
`T5ForConditionalGeneration`, with --compile under torch.compile, with bfloat16 under autocast, on
the GPU where torch has CUDA. All take turns of four steps, so that what else the machine does falls
on all; ours are one dispatch, as in training, where a step works in the memory of the last. Ratios
are of medians. MFU counts 6 operations per parameter and token that passes it (embedding look-ups
and padding none) and attention's products, of --peak operations per second. Beneath, on a CPU,
stands how fast a bare product of the encoder's and of the logits' shape is.
"""

import argparse
import dataclasses
import functools
import itertools
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from turns import medians, product_rates

from catid2_jax.data.catalog import stream_products
from catid2_jax.data.queries import read_queries
from catid2_jax.docids.vocabulary import CodeVocabulary, Vocabulary, train_vocabulary
from catid2_jax.models.t5.config import T5Config
from catid2_jax.seq2seq.config import Seq2SeqObjective
from catid2_jax.seq2seq.decoder import T5Decoder, TrainedNormalizeOver
from catid2_jax.seq2seq.step import Seq2SeqData, count_packed_tokens, make_seq2seq_step
from catid2_jax.training.flops import PEAK_FLOPS
from catid2_jax.training.loop import TrainState
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer
from catid2_jax.training.sampler import EpochSampler

ROWS, FIRST_ID_TOKEN, SOURCE, TARGET = 33152, 32128, 32, 5
CODES = (ROWS - FIRST_ID_TOKEN) // TARGET  # of a level; each of the target's tokens is of its own
LEVEL = "ours, over the level"
STEPS = 4  # of a turn; training dispatches 16 at once

SIZES = {
    "tiny": T5Config(32, 2, 16, 64, 1, 1),
    "small": T5Config(),
    "base": T5Config(768, 12, 64, 2048, 12, 12),
}


def text_lengths(folder: pathlib.Path) -> np.ndarray:
    """Tokens of a set's training queries and titles, each at most SOURCE."""
    texts = [query.text for query in read_queries(folder / "queries.train.jsonl")]
    texts += [product.title for product in stream_products(folder / "catalog.jsonl")]
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "vocabulary.model")
        path.write_bytes(train_vocabulary(texts, 4000))
        tokens, _ = Vocabulary(path, levels=4, codebook_size=256).encode_and_count(texts, SOURCE)
    return np.sum(tokens != 0, axis=1)


def random_pairs(lengths: np.ndarray, batch_size: int) -> tuple[Seq2SeqData, EpochSampler]:
    """Pairs of random tokens with sources of these lengths, and the sampler of their batches."""
    generator, count = np.random.default_rng(0), len(lengths)
    sources = generator.integers(2, 32000, (count, SOURCE)).astype(np.int32)
    vocabulary = CodeVocabulary(TARGET, CODES, FIRST_ID_TOKEN)
    data = Seq2SeqData(
        np.where(np.arange(SOURCE) < lengths[:, None], sources, 0),
        vocabulary.encode_codes(generator.integers(CODES, size=(count, TARGET))),
        np.arange(count),
        np.arange(count),
        np.ones(count, np.float32),
    )
    sampler = EpochSampler(count, batch_size, seed=0)
    packed_tokens = count_packed_tokens(data, sampler, sampler.steps_per_epoch, devices=1)
    return dataclasses.replace(data, packed_tokens=packed_tokens), sampler


def our_steps(
    config: T5Config,
    data: Seq2SeqData,
    sampler: EpochSampler,
    normalize_over: TrainedNormalizeOver,
) -> Callable[[], None]:
    """Steps as the loop dispatches them, of the next batches each time."""
    decoder = T5Decoder(config, ROWS, FIRST_ID_TOKEN, levels=TARGET, codebook_size=CODES)
    objective = Seq2SeqObjective(normalize_over=normalize_over)
    optimizer = make_optimizer(TrainingConfig(weight_decay=0.01), 10)
    source = jax.ShapeDtypeStruct((SOURCE,), jnp.int32)
    params = jax.jit(decoder.initialize, static_argnums=1)(jax.random.key(0), source)
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    step = make_seq2seq_step(decoder, optimizer, objective, 0)
    compiled = jax.jit(functools.partial(jax.lax.scan, step), donate_argnums=0)
    turns = turns_of_an_epoch(sampler)

    def run() -> None:
        nonlocal state
        state, metrics = compiled(state, data.batch(sampler(next(turns), STEPS)))
        jax.block_until_ready((state, metrics))

    return run


def turns_of_an_epoch(sampler: EpochSampler) -> Iterator[int]:
    """The first step of each turn, for ever; the last turn of an epoch is whole."""
    return itertools.cycle(range(0, sampler.steps_per_epoch - STEPS + 1, STEPS))


def peer_steps(
    config: T5Config, data: Seq2SeqData, sampler: EpochSampler, compiled: bool
) -> Callable[[], None]:
    """The same in PyTorch."""
    import torch
    import transformers

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
    turns = turns_of_an_epoch(sampler)

    def run() -> None:
        for indices in sampler(next(turns), STEPS):
            batch = data.batch(indices)
            longest = np.sum(batch.sources != 0, axis=1).max()
            tokens = torch.from_numpy(batch.sources[:, :longest]).long().to(device)
            labels = torch.from_numpy(batch.targets).long().to(device)
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16"):
                loss = call(input_ids=tokens, attention_mask=tokens != 0, labels=labels).loss
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def operations(config: T5Config, batch: int, source: float, logits: int) -> float:
    """Floating-point operations of a step: forward, and twice that backward.

    `source` is the mean number of tokens of a source, `logits` the number for each of the target.
    """
    E, A = config.emb_dim, config.num_heads * config.head_dim
    feed_forward = (len(config.mlp_activations) + 1) * E * config.mlp_dim
    encoder = config.num_encoder_layers * source * (4 * E * A + feed_forward + 2 * source * A)
    decoder = config.num_decoder_layers * (
        TARGET * (6 * E * A + feed_forward + 2 * (TARGET + source) * A) + source * 2 * E * A
    )
    return 6.0 * batch * (encoder + decoder + TARGET * E * logits)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=pathlib.Path, help="data set with queries and titles")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="torch.compile the peer")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--peak", type=float, default=0, help="operations per second; 0: by name")
    arguments = parser.parse_args()
    import torch
    import transformers

    config = dataclasses.replace(SIZES[arguments.size], dtype=arguments.dtype)
    peer = "transformers, torch.compile" if arguments.compile else "transformers, eager"
    lengths = {f"{SOURCE} each": np.full(16 * arguments.batch, SOURCE)}
    if arguments.texts:
        lengths[f"of {arguments.texts.name}"] = text_lengths(arguments.texts)
    runs, packed_tokens = {}, {}
    for name, each in lengths.items():
        data, sampler = random_pairs(each, arguments.batch)
        runs["ours", name] = our_steps(config, data, sampler, "full")
        runs[LEVEL, name] = our_steps(config, data, sampler, "level")
        runs[peer, name] = peer_steps(config, data, sampler, arguments.compile)
        packed_tokens[name] = data.packed_tokens or arguments.batch * SOURCE
    seconds = {k: v / STEPS for k, v in medians(runs, arguments.rounds).items()}
    kind = jax.devices()[0].device_kind
    peak = arguments.peak or PEAK_FLOPS.get(kind, 0)
    print(f"T5 1.1 {arguments.size}, batch {arguments.batch}, {arguments.dtype}, {kind}")
    print(f"jax {jax.__version__}, torch {torch.__version__}, transformers", end=" ")
    print(transformers.__version__)
    print(
        "| sources | mean tokens | we encode | step | s | of our time | tokens/s | GFLOP/s | MFU |"
    )
    print("|---" * 9 + "|")
    for (step, name), value in seconds.items():
        mean = lengths[name].mean()
        total = operations(config, arguments.batch, mean, CODES if step == LEVEL else ROWS)
        encoded = f"{packed_tokens[name]:,} of {arguments.batch * SOURCE:,}"
        tokens = arguments.batch * (mean + TARGET) / value
        mfu = f"{100 * total / value / peak:.1f} %" if peak else ""
        print(
            f"| {name} | {mean:.1f} | {encoded} | {step} | {value:.3f} | "
            f"{value / seconds['ours', name]:.2f} | {tokens:,.0f} | "
            f"{1e-9 * total / value:,.0f} | {mfu} |",
            flush=True,
        )
    if jax.default_backend() == "cpu":
        print("\n| product | GFLOP/s in XLA | in PyTorch |\n|---|---|---|")
        for rows, columns in ((SOURCE, config.mlp_dim), (TARGET, ROWS)):
            shape = arguments.batch * rows, config.emb_dim, columns
            rates = product_rates(*shape)
            print(f"| {shape} | {rates['XLA']:.0f} | {rates['PyTorch']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
