"""The constrained search: alone, over the number of documents, and in T5 beside two others.

    python benchmarks/search.py [--documents 10000 100000 1000000 10000000] [--rounds 20]
    python benchmarks/search.py --t5 [--batches 1 16] [--rounds 3]
    python benchmarks/search.py --shape t5_1_1_base [--batches 64] [--documents 386392]

IDs are drawn at random, K = 256, L = 4, 100 beams. Alone: log-probabilities are drawn at random;
the peers are the same search without a trie (top-k of beams x K at each level) and a trie of Python
dicts that masks the same log-probabilities; the share is that of the whole search alone in a
retrieval by T5 small, batch 1, normalised over `level`, which is the faster. With --t5: random
weights of T5 1.1 small with 33,152 tokens, queries of 32 tokens, 100,000 documents; the peers are
`transformers`' beam search with `prefix_allowed_tokens_fn` over a trie of dicts, in PyTorch, with
as many threads, and, where `t5x` can be imported, T5X's beam search of as many beams and steps,
which knows no trie. They take turns. Beneath stands how fast a bare product of the decoder's shapes
is: what all three come down to.
With --shape: queries per second of a network of that shape, random weights, on the device there is.
Compilation is not counted; medians. Prints Markdown.
"""

import argparse
import dataclasses
import importlib.util
import itertools
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from turns import medians, product_rates

from catid2_jax.decoding.beam_search import beam_search
from catid2_jax.decoding.trie import Trie, build_trie
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.shapes import SHAPES
from catid2_jax.seq2seq.decoder import NormalizeOver, T5Decoder
from catid2_jax.seq2seq.search import retrieve

K, LEVELS, BEAMS = 256, 4, 100
VOCABULARY, FIRST_ID_TOKEN, SOURCE = 33_152, 32_100, 32
NORMALIZED: tuple[NormalizeOver, ...] = ("full", "level")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, nargs="+")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--t5", action="store_true")
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--dtype", default="bfloat16", help="of the activations, with --shape")
    parser.add_argument("--batches", type=int, nargs="+")
    arguments = parser.parse_args()
    if arguments.shape:
        config = dataclasses.replace(SHAPES[arguments.shape].config, dtype=arguments.dtype)
        for documents in arguments.documents or [386_392]:
            throughput(config, documents, arguments.batches or [64], arguments.rounds or 100)
    elif arguments.t5:
        with_t5(arguments.batches or [1, 16], arguments.rounds or 3)
    else:
        sizes = arguments.documents or [10**4, 10**5, 10**6, 10**7]
        alone(sizes, arguments.rounds or 20)


def alone(sizes: list[int], rounds: int) -> None:
    """The table of the search without a model over the number of documents."""
    print(
        "| documents | largest branches | search | without a trie | Python trie | Python trie / "
        "search | of the first row's | of a retrieval by T5 small | temporary memory |"
    )
    print("|---" * 9 + "|")
    retrieval = t5_small_retrieval(rounds)
    tables = jax.random.uniform(jax.random.key(0), (LEVELS, 1, BEAMS, K))
    tables = jax.nn.log_softmax(8 * tables, axis=-1)
    first = None
    for documents in sizes:
        codes = random_ids(documents)
        trie = build_trie(codes, K)
        search = jax.jit(table_search).lower(tables, trie).compile()
        free = jax.jit(unconstrained).lower(tables).compile()
        prefixes = dict_trie(codes) if documents <= 10**6 else None
        host = np.asarray(tables)[:, 0]
        times: dict[str, list[float]] = {"search": [], "free": [], "dicts": []}
        for turn in range(rounds):
            times["search"].append(milliseconds(lambda: search(tables, trie)))  # noqa: B023
            times["free"].append(milliseconds(lambda: free(tables)))  # noqa: B023
            if prefixes is not None and turn < 3:
                times["dicts"].append(
                    milliseconds(lambda: search_in_dicts(host, prefixes))  # noqa: B023
                )
        memory = search.memory_analysis().temp_size_in_bytes / 2**20
        own, without = statistics.median(times["search"]), statistics.median(times["free"])
        first = first or own
        dicts = statistics.median(times["dicts"]) if times["dicts"] else float("nan")
        print(
            f"| {documents:,} | {', '.join(map(str, trie.max_children))} | {own:.2f} ms | "
            f"{without:.2f} ms | {dicts:.1f} ms | {dicts / own:.0f} | {own / first:.2f} | "
            f"{own / retrieval:.1%} | {memory:.2f} MiB |",
            flush=True,
        )


def t5_small_retrieval(rounds: int) -> float:
    """Median milliseconds of a retrieval over `level`, batch 1, 100,000 documents."""
    decoder, params = random_decoder(T5Config())
    tokens, trie = random_queries(1), build_trie(random_ids(100_000), K)
    search = compiled_search(decoder, "level", params, tokens, trie)
    return 1e3 * medians({"search": partial(search, params, tokens, trie)}, rounds)["search"]


def table_search(tables: jax.Array, trie: Trie) -> Any:
    """The search with log-probabilities [L, 1, M, K] that are already there."""

    def step(level: int, codes: Any, cache: Any) -> Any:
        return tables[level][:, : 1 if codes is None else codes.shape[1]], cache

    return beam_search(step, (), trie, 1, BEAMS, BEAMS)


def unconstrained(tables: jax.Array) -> Any:
    """The same, all codes being valid everywhere."""
    scores, codes = jnp.zeros((1, 1)), []
    for table in tables:
        flat = (scores[:, :, None] + table[:, : scores.shape[1]]).reshape(1, -1)
        scores, chosen = jax.lax.top_k(flat, BEAMS)
        codes.append(chosen % K)
    return scores, codes


def search_in_dicts(tables: np.ndarray, prefixes: dict[int, Any]) -> list[int]:
    """The same with a mask made from a trie of dicts, beam by beam."""
    nodes, scores = [prefixes], np.zeros(1, np.float32)
    for table in tables:
        masked = np.full((len(nodes), K), -np.inf, np.float32)
        for beam, node in enumerate(nodes):
            allowed = list(node)
            masked[beam, allowed] = scores[beam] + table[beam, allowed]
        flat = masked.ravel()
        best = np.argpartition(-flat, BEAMS)[:BEAMS]
        best = best[np.argsort(-flat[best])]
        best = best[flat[best] > -np.inf]
        nodes = [nodes[chosen // K][chosen % K] for chosen in best.tolist()]
        scores = flat[best]
    return nodes


def with_t5(batches: list[int], rounds: int) -> None:
    """The table of retrieval with T5 small beside `transformers` and T5X."""
    # Threads that wait by spinning would take the cores from each other on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    codes = random_ids(100_000)
    trie = build_trie(codes, K)
    decoder, params = random_decoder(T5Config())
    peers = {"transformers": transformers_search(codes)}
    if importlib.util.find_spec("t5x"):
        peers["T5X"] = t5x_search(params)
    columns = [column for peer in peers for column in (peer, f"{peer} / search")]
    print(
        f"| batch | normalize_over | search | {' | '.join(columns)} | GFLOP per query | "
        "search's GFLOP/s | temporary memory |"
    )
    print("|---" * (len(columns) + 6) + "|")
    for batch in batches:
        tokens = random_queries(batch)
        searches = {
            normalize_over: compiled_search(decoder, normalize_over, params, tokens, trie)
            for normalize_over in NORMALIZED
        }
        taken = medians(
            {name: partial(search, params, tokens, trie) for name, search in searches.items()}
            | {name: partial(peer, tokens) for name, peer in peers.items()},
            rounds,
        )
        taken = {name: 1e3 * seconds / batch for name, seconds in taken.items()}
        for normalize_over, search in searches.items():
            own, work = taken[normalize_over], operations(T5Config(), normalize_over)
            others = [f"{taken[p]:.0f} ms | {taken[p] / own:.1f}" for p in peers]
            print(
                f"| {batch} | {normalize_over} | {own:.0f} ms | {' | '.join(others)} | "
                f"{1e-9 * work:.1f} | {1e-6 * work / own:.0f} | "
                f"{search.memory_analysis().temp_size_in_bytes / 2**20:.0f} MiB |",
                flush=True,
            )
    print("\n| product | GFLOP/s in XLA | in PyTorch |\n|---|---|---|")
    for batch, (inner, outer) in itertools.product(
        batches, [(512, 512), (512, 1024), (1024, 512), (512, VOCABULARY)]
    ):
        rates = product_rates(batch * BEAMS, inner, outer)
        print(
            f"| {batch * BEAMS:,} x {inner} x {outer:,} | {rates['XLA']:.0f} | "
            f"{rates['PyTorch']:.0f} |",
            flush=True,
        )


def operations(config: T5Config, normalize_over: NormalizeOver) -> float:
    """Floating-point operations of a query: the products with the weights, and with its keys."""
    E, A = config.emb_dim, config.num_heads * config.head_dim
    feed_forward = (len(config.mlp_activations) + 1) * E * config.mlp_dim
    encoder = SOURCE * (4 * E * A + feed_forward + 2 * SOURCE * A)
    layer = 6 * E * A + feed_forward + 2 * (SOURCE + LEVELS) * A
    prefixes = 1 + (LEVELS - 1) * BEAMS  # that the decoder takes a step for
    logits = E * (VOCABULARY if normalize_over == "full" else K)
    return 2.0 * (
        config.num_encoder_layers * encoder
        + config.num_decoder_layers * (2 * SOURCE * E * A + prefixes * layer)
        + prefixes * logits
    )


def throughput(config: T5Config, documents: int, batches: list[int], rounds: int) -> None:
    """The table of queries per second on the device that JAX has."""
    trie = build_trie(random_ids(documents), K)
    decoder, params = random_decoder(config)
    print(f"{jax.devices()[0].device_kind}, {documents:,} documents, {BEAMS} beams\n")
    print("| batch | normalize_over | queries per second | p50 | p99 | temporary memory |")
    print("|---" * 6 + "|")
    for batch in batches:
        tokens = jnp.asarray(random_queries(batch))
        for normalize_over in NORMALIZED:
            search = compiled_search(decoder, normalize_over, params, tokens, trie)
            call = partial(search, params, tokens, trie)
            taken = [milliseconds(call) for _ in range(rounds + 3)][3:]
            p50, p99 = np.percentile(taken, [50, 99])
            print(
                f"| {batch} | {normalize_over} | {1e3 * batch * rounds / sum(taken):,.0f} | "
                f"{p50:.1f} ms | {p99:.1f} ms | "
                f"{search.memory_analysis().temp_size_in_bytes / 2**20:.0f} MiB |",
                flush=True,
            )


def random_decoder(config: T5Config) -> tuple[T5Decoder, Any]:
    """A network with random parameters."""
    decoder = T5Decoder(config, VOCABULARY, FIRST_ID_TOKEN, LEVELS, K)
    source = jax.ShapeDtypeStruct((SOURCE,), jnp.int32)
    initialize = jax.jit(decoder.initialize, static_argnums=1)
    return decoder, initialize(jax.random.key(0), source)


def random_queries(batch: int) -> np.ndarray:
    """int32 [batch, SOURCE], no padding."""
    return np.random.default_rng(0).integers(1, 32_000, (batch, SOURCE)).astype(np.int32)


def compiled_search(
    decoder: T5Decoder,
    normalize_over: NormalizeOver,
    params: Any,
    tokens: np.ndarray,
    trie: Trie,
) -> Any:
    """`retrieve`, compiled for arguments of these shapes."""

    def search(params: Any, tokens: jax.Array, trie: Trie) -> Any:
        return retrieve(decoder, params, tokens, trie, BEAMS, BEAMS, normalize_over=normalize_over)

    return jax.jit(search).lower(params, tokens, trie).compile()


def transformers_search(codes: np.ndarray) -> Callable[[np.ndarray], Any]:
    """Beam search of `transformers` for T5 1.1 small, random weights, over the same IDs."""
    import torch
    import transformers

    shape = T5Config()
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=shape.emb_dim,
        d_kv=shape.head_dim,
        d_ff=shape.mlp_dim,
        num_layers=shape.num_encoder_layers,
        num_decoder_layers=shape.num_decoder_layers,
        num_heads=shape.num_heads,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=None,
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    prefixes = dict_trie(codes + FIRST_ID_TOKEN + K * np.arange(LEVELS))

    def allowed(query: int, generated: Any) -> list[int]:
        node = prefixes
        for token in generated.tolist()[1:]:
            node = node[token]
        return list(node)

    def search(tokens: np.ndarray) -> Any:
        with torch.no_grad():
            return model.generate(
                input_ids=torch.tensor(tokens, dtype=torch.long),
                prefix_allowed_tokens_fn=allowed,
                num_beams=BEAMS,
                num_return_sequences=BEAMS,
                do_sample=False,
                early_stopping=True,
                length_penalty=0.0,
                max_new_tokens=LEVELS,
            )

    return search


def t5x_search(params: Any) -> Callable[[np.ndarray], Any]:
    """Beam search of T5X with its own network and our parameters, over the whole vocabulary."""
    import seqio
    from t5x import models
    from t5x.examples.t5 import network

    config = dataclasses.asdict(T5Config())
    names = {field.name for field in dataclasses.fields(network.T5Config)}
    shape = {name: value for name, value in config.items() if name in names}
    vocabulary = seqio.PassThroughVocabulary(VOCABULARY, eos_id=1)
    model = models.EncoderDecoderModel(
        network.Transformer(network.T5Config(vocab_size=VOCABULARY, **shape)),
        vocabulary,
        vocabulary,
        optimizer_def=None,
    )

    @jax.jit
    def search(params: Any, tokens: jax.Array) -> Any:
        batch = {
            "encoder_input_tokens": tokens,
            "decoder_input_tokens": jnp.zeros((len(tokens), LEVELS), jnp.int32),
        }
        # No token ends a sequence: all have four.
        options = {"eos_id": -1, "alpha": 0.0}
        return model.predict_batch_with_aux(params, batch, None, options, True, BEAMS)

    return lambda tokens: search(params, tokens)


def random_ids(documents: int) -> np.ndarray:
    """int32 [documents, L], rows unique, in no order."""
    generator = np.random.default_rng(0)
    numbers = np.unique(generator.integers(0, K**LEVELS, int(1.02 * documents) + 100))
    numbers = generator.permutation(numbers)[:documents]
    columns = [numbers // K**level % K for level in reversed(range(LEVELS))]
    return np.stack(columns, axis=1).astype(np.int32)


def dict_trie(codes: np.ndarray) -> dict[int, Any]:
    """Nested dicts code -> subtree, the last of them code -> row."""
    root: dict[int, Any] = {}
    for number, row in enumerate(codes.tolist()):
        node = root
        for code in row[:-1]:
            node = node.setdefault(code, {})
        node[row[-1]] = number
    return root


def milliseconds(function: Callable[[], Any]) -> float:
    """How long a call takes, its arrays being there."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return 1e3 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
