"""Step 7: Recall@k beside the baselines, and a few queries to look at."""

import json
import pathlib

from rich.table import Table

from catid2_jax.baselines.bm25 import bm25_rankings
from catid2_jax.config import Config
from catid2_jax.data.catalog import product_text, read_catalog
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.evaluation.recall import recall_at_k
from catid2_jax.evaluation.run_file import read_run, write_run
from catid2_jax.files import write_json
from catid2_jax.progress import console
from catid2_jax.steps.workdir import Workdir
from catid2_jax.types import GRADES, Product, Qrels, Query

NAMES = {"": "CAT-ID2", "bm25": "BM25", "tiger": "TIGER"}


def run(config: Config, workdir: Workdir) -> None:
    """Writes `metrics.json` and prints the Recall table and some results."""
    products = {p.id: p for p in read_catalog(workdir.data / "catalog.jsonl")}
    queries = read_queries(workdir.data / "queries.test.jsonl")
    qrels = read_qrels(workdir.data / "qrels.test.txt")
    runs = {"": workdir.root / config.retrieve.output}
    for baseline in config.evaluate.baselines:
        runs[baseline] = workdir.root / baseline / config.retrieve.output
    if "bm25" in runs:
        documents = [(p.id, product_text(p, with_categories=True)) for p in products.values()]
        texts = [(query.id, query.text) for query in queries]
        write_run(runs["bm25"], bm25_rankings(documents, texts, config.retrieve.k), "bm25")

    metrics: dict[str, float] = {}
    for name, path in runs.items():
        figures = _figures(config, workdir, name, path, qrels)
        metrics |= {f"{name}/{k}" if name else k: v for k, v in figures.items()}
    write_json(workdir.root / "metrics.json", metrics)
    _print_examples(config, runs[""], products, queries, qrels)
    _print_table(config, runs, metrics)
    _print_files(workdir)


def _figures(
    config: Config, workdir: Workdir, name: str, path: pathlib.Path, qrels: Qrels
) -> dict[str, float]:
    """Recall of one run and, where it has document IDs, what those are like."""
    ranking = {query: [d for d, _ in hits] for query, hits in read_run(path).items()}
    figures = recall_at_k(
        ranking, qrels, config.evaluate.cutoffs, config.data.preprocessing.relevant_labels
    )
    ids = Workdir(workdir.root, name).metrics("assign")
    return figures | (json.loads(ids.read_text(encoding="utf-8")) if ids.exists() else {})


def _print_table(config: Config, runs: dict[str, pathlib.Path], metrics: dict[str, float]) -> None:
    synthetic = "" if config.data.catalog else " (synthetic catalogue)"
    table = Table(title=f"Recall@k in %, test queries{synthetic}", title_justify="left")
    table.add_column("")
    for cutoff in config.evaluate.cutoffs:
        table.add_column(f"@{cutoff}", justify="right")
    for name in runs:
        prefix = f"{name}/" if name else ""
        values = [100 * metrics[f"{prefix}recall@{k}"] for k in config.evaluate.cutoffs]
        table.add_row(NAMES[name], *(f"{value:.1f}" for value in values))
    console.print(table)


def _print_examples(
    config: Config,
    path: pathlib.Path,
    products: dict[str, Product],
    queries: list[Query],
    qrels: Qrels,
) -> None:
    """The first three products found for a few queries spread over the test set."""
    labels = {grade: label for label, grade in GRADES.items()}
    run = read_run(path)
    count = min(config.evaluate.examples, len(queries))
    for query in (queries[i * len(queries) // count] for i in range(count)):
        console.print()
        console.print(query.text, style="bold", markup=False)
        for document, score in run.get(query.id, [])[:3]:
            label = labels.get(qrels[query.id].get(document, -1), "-")
            product = products[document]
            console.print(
                f"  {score:7.2f}  {label}  {product.title}  ({' > '.join(product.categories)})",
                markup=False,
            )
    console.print()


def _print_files(workdir: Workdir) -> None:
    """Where everything went."""
    for name, what in (
        ("metrics.json", "the figures"),
        ("run.trec", "the rankings"),
        ("docids.jsonl", "an ID per product"),
        ("rqvae", "checkpoint of stage 1"),
        ("seq2seq", "checkpoint of stage 2"),
        ("data", "catalogue, queries and qrels as used"),
    ):
        if (workdir.root / name).exists():
            console.print(f"  {workdir.root / name}: {what}")
