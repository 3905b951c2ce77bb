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
    preprocess_heldout,
    preprocess_products,
    preprocess_training,
)
from catid2_jax.data.queries import read_qrels, read_queries, write_qrels, write_queries
from catid2_jax.data.statistics import dataset_statistics, statistics_table
from catid2_jax.data.synthetic import generate_products, generate_queries
from catid2_jax.errors import InputError
from catid2_jax.files import write_json, write_npy
from catid2_jax.progress import console, track
from catid2_jax.steps.workdir import Workdir
from catid2_jax.types import Product, Qrels, Query

SPLITS = ("train", "dev", "test")


def run(config: Config, workdir: Workdir) -> None:
    """Fills `data/` with the catalogue, queries and qrels that every later step reads."""
    data = config.data
    if not data.catalog:
        data = write_synthetic(data, workdir.root / "synthetic", config.seed)
    counts = PreprocessingCounts()
    products, known, rejected = _prepare_products(data, workdir, counts)
    kept = {product.id for product in products}
    qrels: dict[str, Qrels] = {}
    for split in SPLITS:
        queries_path = getattr(data, f"{split}_queries")
        if not queries_path:
            continue
        queries = {query.id: query for query in read_queries(queries_path)}
        # A judgement on a rejected product is no mistake of the qrels: it goes with the product.
        judged = read_qrels(
            getattr(data, f"{split}_qrels"), queries.keys(), None if rejected else known
        )
        if split == "train":
            judged = preprocess_training(judged, kept, data.preprocessing, counts)
        else:
            judged = preprocess_heldout(judged, qrels["train"], kept, data.preprocessing, counts)
        if not judged:
            raise InputError(
                f"{queries_path}: no query has a relevant document after preprocessing; expected "
                "some (see config.data.preprocessing)"
            )
        write_queries(workdir.data / f"queries.{split}.jsonl", [queries[q] for q in judged])
        write_qrels(workdir.data / f"qrels.{split}.txt", judged)
        qrels[split] = judged
    _report(config, workdir, products, qrels, counts, rejected)


def _prepare_products(
    data: DataConfig, workdir: Workdir, counts: PreprocessingCounts
) -> tuple[list[Product], set[str], int]:
    """Writes the kept products; returns them, the ids of all products read, and the rejects."""
    reader = read_catalog(data.catalog, data.on_error, workdir.data / "rejected.jsonl")
    known: set[str] = set()
    rows: list[int] = []

    def seen() -> Iterator[Product]:
        for product in reader:
            known.add(product.id)
            yield product

    products = []
    for product in preprocess_products(seen(), data.preprocessing, counts):
        rows.append(len(known) - 1)
        products.append(product)
    if not products:
        raise InputError(
            f"{data.catalog}: found no product of {data.preprocessing.minimum_depth} category "
            "levels or more, expected some (config.data.preprocessing.minimum_depth)"
        )
    write_catalog(workdir.data / "catalog.jsonl", products)
    write_npy(workdir.data / "rows.npy", np.array(rows, np.int64))
    write_json(workdir.data / "source.json", {"products": len(known), "rejected": reader.rejected})
    return products, known, reader.rejected


def _report(
    config: Config,
    workdir: Workdir,
    products: list[Product],
    qrels: dict[str, Qrels],
    counts: PreprocessingCounts,
    rejected: int,
) -> None:
    """Prints Table 1 and what preprocessing took away, and keeps the figures."""
    statistics = dataset_statistics(
        [product.categories for product in products],
        qrels,
        config.data.preprocessing.relevant_labels,
    )
    name = pathlib.Path(config.data.catalog).parent.name if config.data.catalog else "synthetic"
    console.print(statistics_table(statistics, name or "catalogue"))
    removed = {k: v for k, v in dataclasses.asdict(counts).items() if v}
    if rejected:
        console.print(f"{rejected} bad lines set aside in {workdir.data / 'rejected.jsonl'}")
        removed["rejected_lines"] = rejected
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
