"""Step 7: Recall@k beside the baselines, what the IDs are like, and a few queries to look at."""

import json
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
from rich.table import Table

from catid2_jax.retrievers.bm25 import bm25_rankings
from catid2_jax.config import Config
from catid2_jax.data.catalog import product_text, read_catalog
from catid2_jax.data.category_tree import category_ids
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.docids.quality import docid_quality, neighbor_pairs
from catid2_jax.docids.table import read_docids
from catid2_jax.errors import InputError
from catid2_jax.evaluation.recall import recall_at_k
from catid2_jax.evaluation.run_file import read_run, write_run
from catid2_jax.files import write_json
from catid2_jax.progress import console
from catid2_jax.steps.workdir import Workdir
from catid2_jax.types import GRADES, Product, Qrels, Query

NAMES = {"": "CAT-ID2", "bm25": "BM25", "tiger": "TIGER"}


def run(config: Config, workdir: Workdir) -> None:
    """Writes `metrics.json` and prints some results and the tables of IDs and of Recall."""
    products = {p.id: p for p in read_catalog(workdir.data / "catalog.jsonl")}
    systems = ("", *config.evaluate.baselines)
    docids = _docid_figures(config, workdir, systems, products)
    recall: dict[str, dict[str, float]] = {}
    if config.evaluate.retrieval:
        recall = _retrieval(config, workdir, systems, products)
    metrics = {
        f"{name}/{key}" if name else key: value
        for name in systems
        for key, value in (recall.get(name, {}) | docids.get(name, {})).items()
    }
    write_json(workdir.root / "metrics.json", metrics)
    _print_docids(config, docids)
    if recall:
        _print_recall(config, recall)
    _print_files(workdir)


def _retrieval(
    config: Config, workdir: Workdir, systems: Iterable[str], products: dict[str, Product]
) -> dict[str, dict[str, float]]:
    """Recall@k of each system; prints some results of the first."""
    queries = read_queries(workdir.data / "queries.test.jsonl")
    qrels = read_qrels(workdir.data / "qrels.test.txt")
    runs = {name: workdir.root / name / config.retrieve.output for name in systems}
    if "bm25" in runs:
        documents = [(p.id, product_text(p, with_categories=True)) for p in products.values()]
        texts = [(query.id, query.text) for query in queries]
        write_run(runs["bm25"], bm25_rankings(documents, texts, config.retrieve.k), "bm25")
    _print_examples(config, runs[""], products, queries, qrels)
    return {name: _recall(config, path, qrels) for name, path in runs.items()}


def _recall(config: Config, path: pathlib.Path, qrels: Qrels) -> dict[str, float]:
    ranking = {query: [d for d, _ in hits] for query, hits in read_run(path).items()}
    labels = config.data.preprocessing.relevant_labels
    return recall_at_k(ranking, qrels, config.evaluate.cutoffs, labels)


def _docid_figures(
    config: Config, workdir: Workdir, names: Iterable[str], products: Mapping[str, Product]
) -> dict[str, dict[str, float]]:
    """Per system that has IDs: the figures that `assign` left, and those of its table of IDs.

    Of two figures of one name the table's is kept.
    """
    paths = [product.categories for product in products.values()]
    categories = category_ids(paths, max(map(len, paths)))
    embeddings = np.load(workdir.embeddings, allow_pickle=False, mmap_mode="r")
    neighbors = neighbor_pairs(embeddings, seed=config.seed)
    figures: dict[str, dict[str, float]] = {}
    for variant in (Workdir(workdir.root, name) for name in names):
        if not variant.docids.exists():
            continue
        assigned = variant.metrics("assign")
        found = json.loads(assigned.read_text(encoding="utf-8")) if assigned.exists() else {}
        codes = _codes_of(products, variant.docids)
        quality = docid_quality(codes, config.rqvae.codebook_size, categories, neighbors)
        figures[variant.variant] = found | quality
    return figures


def _codes_of(products: Iterable[str], path: pathlib.Path) -> np.ndarray:
    """Codes [N, L] of the products, in their order.

    Raises:
        InputError: a product without an ID.
    """
    table = read_docids(path)
    rows = {product_id: row for row, product_id in enumerate(table.ids)}
    try:
        return table.codes[[rows[product_id] for product_id in products]]
    except KeyError as error:
        raise InputError(
            f"{path}: found no document ID for product {error.args[0]!r}, expected one for each"
        ) from error


def _print_docids(config: Config, figures: Mapping[str, Mapping[str, float]]) -> None:
    """A table of the figures per level of the ID and one of the others, named as in the file."""
    per_level: dict[str, dict[str, dict[int, float]]] = {}
    others: dict[str, dict[str, float]] = {}
    for name, found in figures.items():
        for key, value in found.items():
            metric, _, level = key.partition("/level_")
            if level:
                per_level.setdefault(metric, {}).setdefault(name, {})[int(level)] = value
            else:
                others.setdefault(metric, {})[name] = value

    depth = max(max(values) for rows in per_level.values() for values in rows.values())
    table = _table(config, "Document IDs, per level", "", *map(str, range(1, depth + 1)))
    for metric, rows in per_level.items():
        for i, (name, values) in enumerate(rows.items()):
            cells = (_cell(values.get(level)) for level in range(1, depth + 1))
            table.add_row("" if i else _words(metric), _label(config, name), *cells)
    console.print(table)

    table = _table(config, "Document IDs", *(_label(config, name) for name in figures))
    for metric, row in others.items():
        table.add_row(_words(metric), *(_cell(row.get(name)) for name in figures))
    console.print(table)


def _print_recall(config: Config, recall: Mapping[str, Mapping[str, float]]) -> None:
    table = _table(
        config, "Recall@k in %, test queries", *(f"@{k}" for k in config.evaluate.cutoffs)
    )
    for name, figures in recall.items():
        table.add_row(_label(config, name), *(f"{100 * value:.1f}" for value in figures.values()))
    console.print(table)


def _table(config: Config, title: str, *columns: str) -> Table:
    """A table whose first column is for the names of its rows."""
    synthetic = "" if config.data.catalog else " (synthetic catalogue)"
    table = Table("", title=title + synthetic, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


def _label(config: Config, name: str) -> str:
    """What a system is called in the tables."""
    return "given IDs" if config.docids.path and not name else NAMES[name]


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("/", ": ")


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


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
