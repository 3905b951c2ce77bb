"""Step 1: reads (or generates) the data, applies the paper's preprocessing, prints Table 1."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from catid2_jax.config import Config, DataConfig
from catid2_jax.data.catalog import read_catalog, write_catalog
from catid2_jax.data.preprocessing import (
    PreprocessingCounts,
    keep_grades,
    preprocess_heldout,
    preprocess_products,
    preprocess_training,
)
from catid2_jax.data.queries import (
    read_qrels,
    read_queries,
    relevant_grades,
    write_qrels,
    write_queries,
)
from catid2_jax.data.statistics import dataset_statistics, statistics_table
from catid2_jax.data.synthetic import generate_products, generate_queries
from catid2_jax.errors import InputError
from catid2_jax.files import write_json, write_npy
from catid2_jax.progress import console, track
from catid2_jax.steps.workdir import Workdir
from catid2_jax.types import Product, Qrels, Query

SPLITS = ("train", "dev", "test")


@dataclasses.dataclass
class _Kept:
    """What later parts of the step need of the catalogue, without its text.

    Attributes:
        known: ids of all products read.
        ids: ids of those kept.
        paths: category path of each product kept; equal paths are one object.
        rejected: bad lines set aside.
        queries: how many queries each split's file has.
    """

    known: set[str]
    ids: set[str]
    paths: list[tuple[str, ...]]
    rejected: int
    queries: dict[str, int]


def run(config: Config, workdir: Workdir) -> None:
    """Fills `data/` with the catalogue, queries and qrels that every later step reads."""
    data = config.data
    if not data.catalog:
        data = write_synthetic(data, workdir.root / "synthetic", config.seed)
    counts = PreprocessingCounts()
    kept = _prepare_products(data, workdir, counts)
    qrels: dict[str, Qrels] = {}
    for split in SPLITS:
        if getattr(data, f"{split}_queries"):
            qrels[split] = _prepare_split(data, workdir, split, kept, qrels.get("train"), counts)
    source = {"products": len(kept.known) + kept.rejected, "rejected": kept.rejected}
    source |= {f"{split}_queries": count for split, count in kept.queries.items()}
    write_json(workdir.data / "source.json", source)
    _report(config, workdir, kept, qrels, counts)


def _prepare_products(data: DataConfig, workdir: Workdir, counts: PreprocessingCounts) -> _Kept:
    """Writes the kept products and their rows in the source, product by product."""
    reader = read_catalog(data.catalog, data.on_error, workdir.data / "rejected.jsonl")
    kept = _Kept(set(), set(), [], 0, {})
    distinct: dict[tuple[str, ...], tuple[str, ...]] = {}
    rows: list[int] = []

    def source() -> Iterator[Product]:
        for product in reader:
            kept.known.add(product.id)
            yield product

    def products() -> Iterator[Product]:
        for product in preprocess_products(source(), data.preprocessing, counts):
            rows.append(len(kept.known) + reader.rejected - 1)
            kept.ids.add(product.id)
            kept.paths.append(distinct.setdefault(product.categories, product.categories))
            yield product
        if not rows:
            raise InputError(
                f"{data.catalog}: found no product of {data.preprocessing.minimum_depth} category "
                "levels or more, expected some (config.data.preprocessing.minimum_depth)"
            )

    write_catalog(workdir.data / "catalog.jsonl", products())
    kept.rejected = reader.rejected
    write_npy(workdir.data / "rows.npy", np.array(rows, np.int64))
    return kept


def _prepare_split(
    data: DataConfig,
    workdir: Workdir,
    split: str,
    kept: _Kept,
    training: Qrels | None,
    counts: PreprocessingCounts,
) -> Qrels:
    """Writes what preprocessing leaves of a split and its rows in the source; returns its qrels."""
    path = getattr(data, f"{split}_queries")
    queries = {query.id: query for query in read_queries(path)}
    kept.queries[split] = len(queries)
    # A judgement on a rejected product is no mistake of the qrels: it goes with the product.
    documents = None if kept.rejected else kept.known
    qrels = read_qrels(getattr(data, f"{split}_qrels"), queries.keys(), documents)
    if training is None:
        qrels = preprocess_training(qrels, kept.ids, data.preprocessing, counts)
    else:
        qrels = preprocess_heldout(qrels, training, kept.ids, data.preprocessing, counts)
    if not qrels:
        raise InputError(
            f"{path}: found no query with a relevant document after preprocessing, expected some "
            "(see config.data.preprocessing)"
        )
    write_queries(workdir.data / f"queries.{split}.jsonl", (queries[q] for q in qrels))
    write_qrels(workdir.data / f"qrels.{split}.txt", qrels)
    # Preprocessing drops queries, and the others come in the order of their judgements.
    row = {query_id: row for row, query_id in enumerate(queries)}
    write_npy(workdir.data / f"query_rows.{split}.npy", np.array([row[q] for q in qrels], np.int64))
    return qrels


def _report(
    config: Config,
    workdir: Workdir,
    kept: _Kept,
    qrels: dict[str, Qrels],
    counts: PreprocessingCounts,
) -> None:
    """Prints Table 1 and what preprocessing took away, and keeps the figures."""
    relevant = relevant_grades(config.data.preprocessing.relevant_labels)
    pairs = {
        split: judged if split == "train" else keep_grades(judged, relevant)
        for split, judged in qrels.items()
    }
    statistics = dataset_statistics(kept.paths, pairs)
    name = pathlib.Path(config.data.catalog).parent.name if config.data.catalog else "synthetic"
    console.print(statistics_table(statistics, name or "catalogue"))
    removed = {what: count for what, count in dataclasses.asdict(counts).items() if count}
    if kept.rejected:
        console.print(f"{kept.rejected} bad lines set aside in {workdir.data / 'rejected.jsonl'}")
        removed["rejected_lines"] = kept.rejected
    for what, count in removed.items():
        console.print(f"  {what.replace('_', ' ')}: {count:,}")
    write_json(workdir.metrics("prepare"), statistics | removed)


def write_synthetic(data: DataConfig, directory: pathlib.Path, seed: int) -> DataConfig:
    """Generates the built-in synthetic catalogue as files; returns `data` with their paths."""
    synthetic = data.synthetic
    paths = {"catalog": directory / "catalog.jsonl"}
    products = generate_products(synthetic, seed)
    write_catalog(paths["catalog"], track(products, "synthetic products", synthetic.products))
    for split in SPLITS:
        queries: list[Query] = []
        qrels: Qrels = {}
        total = getattr(synthetic, f"{split}_queries")
        generated = generate_queries(synthetic, seed, split)
        for query, grades in track(generated, f"synthetic {split} queries", total):
            queries.append(query)
            qrels[query.id] = grades
        if queries:
            paths[f"{split}_queries"] = directory / f"queries.{split}.jsonl"
            paths[f"{split}_qrels"] = directory / f"qrels.{split}.txt"
            write_queries(paths[f"{split}_queries"], queries)
            write_qrels(paths[f"{split}_qrels"], qrels)
    fields: dict[str, Any] = {name: str(path) for name, path in paths.items()}
    return dataclasses.replace(data, **fields)
