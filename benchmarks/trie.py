r"""Building the trie beside sorting its table, and its size.

    python benchmarks/trie.py [--documents 386392 10000000] [--codebook_size 256] [--levels 4] \
        [--rounds 3]

IDs are drawn at random and are unique. The peer is `numpy.lexsort` of the same table, the sort that
a trie of sorted prefixes needs at least. The two take turns; medians. A filter is the mask of a
request that allows half of the documents, compilation not counted. Prints Markdown.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from catid2_jax.decoding.trie import build_trie


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, nargs="+", default=[386_392, 10_000_000])
    parser.add_argument("--codebook_size", type=int, default=256)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(
        "| documents | lexsort | trie | trie / lexsort | bytes per document | of it unused | "
        "a filter |"
    )
    print("|---" * 7 + "|")
    for documents in arguments.documents:
        codes = random_ids(documents, arguments.codebook_size, arguments.levels)
        sorting, building = [], []
        for _ in range(arguments.rounds):
            sorting.append(seconds(lambda codes=codes: np.lexsort(codes.T[::-1])))
            building.append(seconds(lambda codes=codes: build_trie(codes, arguments.codebook_size)))
        trie = build_trie(codes, arguments.codebook_size)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(trie))
        used = sum(leaf[:count].nbytes for leaf, count in zip(*parts(trie), strict=True))
        allowed = np.arange(documents) % 2 == 0
        turns = [
            seconds(lambda trie=trie, allowed=allowed: trie.mask(allowed))
            for _ in range(arguments.rounds + 1)
        ]
        masking = 1e3 * statistics.median(turns[1:])
        whole, part = statistics.median(building), statistics.median(sorting)
        print(
            f"| {documents:,} | {part:.2f} s | {whole:.2f} s | {whole / part:.2f} | "
            f"{size / documents:.1f} | {1 - used / size:.0%} | {masking:.0f} ms |",
            flush=True,
        )


def random_ids(documents: int, codebook_size: int, levels: int) -> np.ndarray:
    """int32 [documents, levels], rows unique, in no order."""
    generator = np.random.default_rng(0)
    numbers = np.unique(generator.integers(0, codebook_size**levels, int(1.02 * documents) + 100))
    numbers = generator.permutation(numbers)[:documents]
    places = codebook_size ** np.arange(levels)[::-1]
    return (numbers[:, None] // places % codebook_size).astype(np.int32)


def parts(trie: Any) -> tuple[list[jax.Array], list[int]]:
    """The arrays of a trie, and how many of the entries of each are in use."""
    edges = [int(offsets[-1]) for offsets in trie.offsets]
    nodes = [1, *edges[:-1]]
    arrays = [*trie.codes, *trie.offsets, trie.documents]
    return arrays, [*edges, *(count + 1 for count in nodes), edges[-1]]


def seconds(function: Callable[[], Any]) -> float:
    """How long a call takes, its arrays being there."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
