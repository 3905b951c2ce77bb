"""Step 6: Recall@k of all systems, what their IDs are like, and a few queries to look at."""

import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
from rich.table import Table

from catid2_jax.config import Config
from catid2_jax.data.category_tree import category_ids
from catid2_jax.data.corpus import Catalog
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.docids.quality import docid_quality, neighbor_pairs
from catid2_jax.evaluation.config import EvaluateConfig
from catid2_jax.evaluation.recall import recall_at_k, trec_eval_order
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.files import read_json, read_npy, write_json
from catid2_jax.loading import load_table
from catid2_jax.progress import console
from catid2_jax.resolution import ResolvedSystem
from catid2_jax.types import GRADES, Qrels, Query
from catid2_jax.workdir import Place, Workdir

READS = (
    "systems",
    "evaluate",
    "data.catalog",
    "data.preprocessing",
    "retrieve.output",
    "retrieve.k",
)

Figures = Mapping[str, Mapping[str, float]]
"""System -> name of the figure -> value."""


def run(
    config: Config,
    place: Place,
    systems: Mapping[str, ResolvedSystem],
    places: Mapping[str, Place],
) -> None:
    """Writes `metrics.json` and prints some results and the tables of IDs and of Recall.

    Args:
        config: what is measured.
        place: the shared files.
        systems: the systems by name, in the order of the tables.
        places: where each system's files lie.
    """
    workdir = place.workdir
    catalog = Catalog.open(workdir.catalog)
    docids = _docid_figures(config, systems, places, catalog)
    recall: Figures = {}
    if config.evaluate.retrieval:
        recall = _recall(config, workdir, systems, places, catalog)
    metrics = {
        f"{name}/{key}": value
        for name in systems
        for key, value in (dict(recall.get(name, {})) | dict(docids.get(name, {}))).items()
    }
    write_json(workdir.metrics, metrics)
    labels = {name: system.row.label for name, system in systems.items()}
    origin = "" if config.data.catalog else " (synthetic catalogue)"
    if docids:
        _print_docids(docids, labels, origin)
    if recall:
        _print_recall(config.evaluate, recall, labels, origin)
    _print_files(workdir, places)


def _recall(
    config: Config,
    workdir: Workdir,
    systems: Mapping[str, ResolvedSystem],
    places: Mapping[str, Place],
    catalog: Catalog,
) -> Figures:
    """Recall@k of each system, for k up to what its run has; prints some results of the first."""
    queries = read_queries(workdir.queries("test"))
    qrels = read_qrels(workdir.qrels("test"))
    labels = config.data.preprocessing.relevant_labels
    in_order = trec_eval_order if config.evaluate.ties == "trec_eval" else list
    figures = {}
    for number, (name, place) in enumerate(places.items()):
        run = read_run(place.folder / config.retrieve.output)
        if number == 0:
            _print_examples(config.evaluate.examples, run, catalog, queries, qrels)
        ranking = {query: [d for d, _ in in_order(hits)] for query, hits in run.items()}
        most = systems[name].config.retrieve.k
        cutoffs = [k for k in config.evaluate.cutoffs if k <= most]
        figures[name] = recall_at_k(ranking, qrels, cutoffs, labels) if cutoffs else {}
        left_out = ", ".join(f"@{k}" for k in config.evaluate.cutoffs if k > most)
        if left_out:
            console.print(
                f"{systems[name].row.label}: no Recall{left_out}, since retrieve.k is {most}"
            )
    return figures


def _print_recall(
    section: EvaluateConfig, recall: Figures, labels: Mapping[str, str], origin: str
) -> None:
    """A table of Recall@k, a row per system."""
    ties = ", ties as in trec_eval" if section.ties == "trec_eval" else ""
    columns = [f"@{k}" for k in section.cutoffs]
    table = _table(f"Recall@k in %, test queries{ties}{origin}", columns)
    for name, figures in recall.items():
        values = (figures.get(f"recall{column}") for column in columns)
        table.add_row(labels[name], *("" if v is None else f"{100 * v:.1f}" for v in values))
    console.print(table)


def _docid_figures(
    config: Config,
    systems: Mapping[str, ResolvedSystem],
    places: Mapping[str, Place],
    catalog: Catalog,
) -> Figures:
    """Per system with IDs of its own: the figures that its scheme left, and those of its table.

    Of two figures of one name the table's is kept.
    """
    depth = max(map(len, catalog.paths))
    categories = category_ids(catalog.paths, depth)
    neighbors: dict[pathlib.Path, np.ndarray] = {}
    figures: dict[str, dict[str, float]] = {}
    for name, place in places.items():
        if not systems[name].row.scheme:
            continue
        path = place.embeddings
        if path not in neighbors:
            embeddings = read_npy(path, memory_mapped=True)
            neighbors[path] = neighbor_pairs(embeddings, seed=config.seed)
        left = place.figures("docids")
        found = read_json(left) if left.exists() else {}
        table = load_table(place, catalog)
        quality = docid_quality(table.codes, table.codebook_size, categories, neighbors[path])
        figures[name] = found | quality
    return figures


def _print_docids(figures: Figures, labels: Mapping[str, str], origin: str) -> None:
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
    levels = range(1, depth + 1)
    table = _table(f"Document IDs, per level{origin}", ["", *map(str, levels)])
    for metric, rows in per_level.items():
        for i, (name, values) in enumerate(rows.items()):
            cells = (_cell(values.get(level)) for level in levels)
            table.add_row("" if i else _words(metric), labels[name], *cells)
    console.print(table)

    table = _table(f"Document IDs{origin}", [labels[name] for name in figures])
    for metric, row in others.items():
        table.add_row(_words(metric), *(_cell(row.get(name)) for name in figures))
    console.print(table)


def _table(title: str, columns: Iterable[str]) -> Table:
    """A table whose first column is for the names of its rows."""
    table = Table("", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("/", ": ")


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _print_examples(
    count: int,
    run: Mapping[str, list[tuple[str, float]]],
    catalog: Catalog,
    queries: list[Query],
    qrels: Qrels,
) -> None:
    """The first three products found for a few queries spread over the test set."""
    labels = {grade: label for label, grade in GRADES.items()}
    count = min(count, len(queries))
    for query in (queries[i * len(queries) // count] for i in range(count)):
        console.print()
        console.print(query.text, style="bold", markup=False)
        for document, score in run.get(query.id, [])[:3]:
            label = labels.get(qrels[query.id].get(document, -1), "-")
            product = catalog[catalog.rows[document]]
            console.print(
                f"  {score:7.2f}  {label}  {product.title}  ({' > '.join(product.categories)})",
                markup=False,
            )
    console.print()


def _print_files(workdir: Workdir, places: Mapping[str, Place]) -> None:
    """Where everything went."""
    console.print(f"  {workdir.metrics}: the figures")
    console.print(f"  {workdir.data}: catalogue, queries and qrels as used")
    for name, place in places.items():
        console.print(f"  {place.folder}: IDs, checkpoints and rankings of {name}")
