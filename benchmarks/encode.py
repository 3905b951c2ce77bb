"""Documents per second through the encoder of T5 small, beside `transformers`.

    python benchmarks/encode.py [--documents 256] [--batch_tokens 4096 16384] [--rounds 3]

Random weights; documents of 4 to 256 tokens, of log-normal lengths around 50 as titles with texts
have. The peer is `transformers`' `T5EncoderModel` in PyTorch with as many threads and masked mean
pooling, in batches of 32 documents: as they come, and sorted by length. All take turns; neither
tokenising nor compilation is counted; medians. Prints Markdown.
"""

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from catid2_jax.checkpoints.names import hugging_face_names, turned
from catid2_jax.checkpoints.tree import parameter_shapes, unflatten
from catid2_jax.encoders.encoder import encode_texts
from catid2_jax.encoders.t5 import T5Encoder
from catid2_jax.models.t5.shapes import SHAPES

SHAPE = SHAPES["t5_small"]
PEER_BATCH = 32


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=256)
    parser.add_argument("--batch_tokens", type=int, nargs="+", default=[4096, 16_384])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(3.9, 0.7, arguments.documents), 4, 256).astype(int)
    documents = [generator.integers(3, 32_000, length).tolist() for length in lengths]
    params = {
        name: (generator.normal(size=shape) * shape[0] ** -0.5).astype(np.float32)
        for name, shape in parameter_shapes(SHAPE.config, SHAPE.rows).items()
    }
    sort = sorted(range(len(documents)), key=lambda i: len(documents[i]))
    peer = functools.partial(encode_with_peer, peer_model(params))
    runs: dict[str, Callable[[], np.ndarray]] = {
        "`transformers`, as they come": lambda: peer(documents),
        "`transformers`, sorted by length": lambda: peer([documents[i] for i in sort])[
            np.argsort(sort)
        ],
    }
    encoder = T5Encoder(SHAPE.config, unflatten(params), lambda i: documents[int(i)], b"", 256)
    texts = [str(i) for i in range(len(documents))]
    for tokens in arguments.batch_tokens:
        runs[f"ours, batches of {tokens:,} tokens"] = functools.partial(
            lambda tokens: encode_texts(texts, encoder, tokens)[0], tokens
        )
    results = {name: run() for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    first = next(iter(results.values()))
    best_peer = min(statistics.median(times[name]) for name in list(runs)[:2])
    print(f"{len(documents)} documents, {lengths.mean():.0f} tokens on average; {jax.devices()}")
    print("\n| | documents/s | times the peer's best | greatest difference |\n|---|---|---|---|")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        difference = np.abs(results[name] - first).max()
        rate = len(documents) / median
        print(f"| {name} | {rate:.1f} | {best_peer / median:.2f} | {difference:.0e} |")


def peer_model(params: dict[str, np.ndarray]) -> Any:
    """The same network there."""
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count() or 1)
    config = SHAPE.config
    model = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=SHAPE.rows,
            d_model=config.emb_dim,
            d_kv=config.head_dim,
            d_ff=config.mlp_dim,
            num_layers=config.num_encoder_layers,
            num_heads=config.num_heads,
            feed_forward_proj="relu",
        )
    )
    names = hugging_face_names(config)
    weights = {
        theirs: torch.tensor(turned(ours, params[ours]).copy())
        for ours, theirs in names.items()
        if theirs.startswith(("shared.", "encoder."))
    }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert set(missing) <= {"encoder.embed_tokens.weight"}, missing
    return model.eval()


def encode_with_peer(model: Any, documents: list[list[int]]) -> np.ndarray:
    """Masked means, batch after batch, each padded to its longest document."""
    import torch

    parts = []
    for start in range(0, len(documents), PEER_BATCH):
        batch = documents[start : start + PEER_BATCH]
        width = max(map(len, batch))
        tokens = torch.tensor([ids + [0] * (width - len(ids)) for ids in batch])
        mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in batch])
        with torch.inference_mode():
            states = model(input_ids=tokens, attention_mask=mask).last_hidden_state
        parts.append(((states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)).numpy())
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
