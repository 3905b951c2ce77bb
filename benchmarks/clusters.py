"""Recall against time of the search by clusters (section 4.7), and the Recall that fewer bits cost.

    python -m catid2_jax.pipeline --config=benchmarks/configs/grocery.py --workdir=RUN
    python benchmarks/clusters.py RUN [--levels 1 2 3 4] [--beams 1 3 10 30 100]

RUN is a work directory of `benchmarks/configs/grocery.py`. What is beneath the best prefixes is
ranked by dense scores, inner products with the set's own vectors of its queries, and cut at 100: a
row of L codes and M beams is the system `clusters` with options.clusters.level = L and
retrieve.beams = M. Whole IDs are ranked by the model. The labels are silver and made by those dense
scores: ranking all documents by them is nearly the oracle, and what a row shows is what the
clusters leave out. Recall in % on E and S of the test queries. Time: median of single queries, from
tokens to documents, compilation not counted; the rows take turns. Prints Markdown.
"""

import argparse
import dataclasses
import functools
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np

import catid2_jax
from catid2_jax.decoding.clusters import Clusters
from catid2_jax.evaluation.recall import recall_at_k
from catid2_jax.loading import load_corpus, load_queries
from catid2_jax.models.param_dtype import quantize
from catid2_jax.retrievers.generative import TrainedModel
from catid2_jax.seq2seq.search import retrieve, retrieve_prefixes
from catid2_jax.types import Qrels
from catid2_jax.workdir import shared_place

K, BATCH, TIMED = 100, 65, 60

Search: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, float]]
"""Rows of the queries -> (their documents [rows, K], documents that were ranked per query)."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """The model, the test queries and what is relevant to them."""

    model: TrainedModel
    ids: list[str]
    sources: np.ndarray
    vectors: np.ndarray
    embeddings: np.ndarray
    qrels: Qrels

    def arguments(self, rows: np.ndarray, params: Any = None) -> dict[str, Any]:
        """What `retrieve` and `retrieve_prefixes` both take."""
        return {
            "params": self.model.params if params is None else params,
            "sources": self.sources[rows],
            "trie": self.model.trie,
        }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=pathlib.Path)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 3, 10, 30, 100])
    arguments = parser.parse_args()
    setting = load(arguments.workdir)
    searches = {("all documents", ""): functools.partial(dense, setting)}
    for level in arguments.levels:
        for beams in arguments.beams:
            searches[f"{level}", f"{beams}"] = cluster_search(setting, level, beams)
    for beams in arguments.beams:
        searches["whole IDs", f"{beams}"] = whole_search(setting, beams)
    print_curve(setting, searches)
    print()
    print_param_dtypes(setting)


def load(workdir: pathlib.Path) -> Setting:
    """CAT-ID2's model of a work directory, its test queries and their vectors."""
    model: Any = catid2_jax.load(workdir, "cat_id2", param_dtype="float32").retriever
    place = shared_place(workdir)
    queries = load_queries(place, "test")
    return Setting(
        model.model,
        queries.ids,
        model.model.source.of_queries(queries.texts, queries.vectors),
        queries.vectors,
        np.asarray(load_corpus(place).embeddings),
        queries.qrels,
    )


def dense(setting: Setting, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """All documents by their dense scores."""
    scores = setting.vectors[rows] @ setting.embeddings.T
    return np.argsort(-scores, axis=1)[:, :K], scores.shape[1]


def cluster_search(setting: Setting, level: int, beams: int) -> Search:
    """Prefixes of `level` codes, and what is beneath them by dense scores."""
    model = setting.model
    clusters = Clusters(model.trie, level, setting.embeddings)
    find = jax.jit(functools.partial(retrieve_prefixes, model.decoder, beams=beams, depth=level))

    def search(rows: np.ndarray) -> tuple[np.ndarray, float]:
        prefixes = jax.tree.map(np.asarray, find(**setting.arguments(rows)))
        documents, _ = clusters.rank(prefixes.nodes, prefixes.scores, setting.vectors[rows], K)
        sizes = np.diff(clusters.starts)[prefixes.nodes] * (prefixes.scores > -np.inf)
        return documents, sizes.sum(axis=1).mean()

    return search


def whole_search(setting: Setting, beams: int, params: Any = None) -> Search:
    """Whole IDs, ranked by the model."""
    find = jax.jit(functools.partial(retrieve, setting.model.decoder, beams=beams, k=beams))

    def search(rows: np.ndarray) -> tuple[np.ndarray, float]:
        return np.asarray(find(**setting.arguments(rows, params)).documents), beams

    return search


def print_curve(setting: Setting, searches: dict[tuple[str, str], Search]) -> None:
    """The table of Recall and time; the searches take turns query by query."""
    times: dict[tuple[str, str], list[float]] = {name: [] for name in searches}
    for row in range(-1, TIMED):  # the first compiles
        for name, search in searches.items():
            start = time.perf_counter()
            search(np.array([max(row, 0)]))
            times[name] += [1e3 * (time.perf_counter() - start)] * (row >= 0)
    print("| codes decoded | beams | documents ranked | R@10 | R@100 | ms per query |")
    print("|---" * 6 + "|")
    for (codes, beams), search in searches.items():
        documents, ranked = search_all(setting, search)
        print(
            f"| {codes} | {beams} | {ranked:,.0f} | {recalls(setting, documents)} | "
            f"{statistics.median(times[codes, beams]):.1f} |",
            flush=True,
        )


def print_param_dtypes(setting: Setting) -> None:
    """The table of Recall over the type of the parameters."""
    print("| param_dtype | parameters | R@10 | R@100 | of float32's 100 documents |")
    print("|---" * 5 + "|")
    original: np.ndarray | None = None
    for param_dtype in ("float32", "bfloat16", "int8"):
        params = quantize(setting.model.params, param_dtype)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
        documents, _ = search_all(setting, whole_search(setting, K, params))
        original = documents if original is None else original
        pairs = zip(documents, original, strict=True)
        same = np.mean([len(np.intersect1d(*pair)) / K for pair in pairs])
        cells = f"{size / 2**20:.2f} MiB | {recalls(setting, documents)} | {same:.1%}"
        print(f"| {param_dtype} | {cells} |", flush=True)


def search_all(setting: Setting, search: Search) -> tuple[np.ndarray, float]:
    """The results of all queries, and the mean of what was ranked."""
    every = np.arange(len(setting.ids))
    parts = [search(every[start : start + BATCH]) for start in range(0, len(every), BATCH)]
    return np.concatenate([part[0] for part in parts]), statistics.mean(part[1] for part in parts)


def recalls(setting: Setting, documents: np.ndarray) -> str:
    """Recall@10 and @100 as cells."""
    names = setting.model.table.ids
    run = {
        query: [names[row] for row in found if row >= 0]
        for query, found in zip(setting.ids, documents.tolist(), strict=True)
    }
    found = recall_at_k(run, setting.qrels, (10, 100))
    return " | ".join(f"{100 * found[f'recall@{k}']:.1f}" for k in (10, 100))


if __name__ == "__main__":
    main()
