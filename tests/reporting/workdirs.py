"""Finished work directories that are written by hand: 24 products, six test queries."""

import json

import numpy as np

from catid2_jax.config import default_config, freeze
from catid2_jax.data.corpus import write_columns
from catid2_jax.docids.table import DocidTable, write_docids
from catid2_jax.evaluation.run_file import write_run
from catid2_jax.files import write_json, write_npy
from catid2_jax.resolution import resolve_systems
from catid2_jax.steps import evaluate
from catid2_jax.training.metric_writer import MetricWriter
from catid2_jax.types import Product
from catid2_jax.workdir import (
    Record,
    Workdir,
    place_of,
    record_path,
    relevant_values,
    write_record,
)

IDS = [f"p{n}" for n in range(24)]
PATHS = [("Home", "Lamps")] * 6 + [("Home", "Rugs")] * 6 + [("Toys", "Dolls")] * 12
CODES = {  # by category, and without regard to it
    "cat_id2": np.array([[n // 6, n % 6 // 2, n % 2] for n in range(24)]),
    "cat_id2@1": np.array([[3 - n // 6, n % 6 // 2, n % 2] for n in range(24)]),
    "tiger": np.array([[n % 4, n // 4 % 3, n // 12] for n in range(24)]),
}
TITLES = [f"brass lamp number {n}" if n < 6 else f"soft thing number {n}" for n in range(24)]
QUERIES = {
    "test": {
        "q0": "Brass lamp",
        "q1": "soft rug",
        "q2": "doll house",
        "q3": "lamps and dolls",
        "q4": "unjudged words",
        "q5": "green rug",
    },
    "train": {"t0": "brass  LAMP!", "t1": "House, doll", "t2": "soft green rug"},
}
QRELS = {
    "test": {
        "q0": {"p0": 3, "p1": 2, "p7": 0},
        "q1": {"p6": 3},
        "q2": {"p12": 3, "p13": 3, "p14": 1},
        "q3": {"p2": 2, "p20": 3},
        "q5": {"p8": 3},
    },
    "train": {"t0": {"p0": 3, "p3": 3}, "t1": {"p12": 3, "p20": 2}, "t2": {"p6": 3}},
}
RUNS = {  # scores fall by one from 0
    "cat_id2": {"q0": "p0 p5 p1", "q1": "p7 p6", "q2": "p12 p13", "q3": "p2 p3", "q5": "p20"},
    "cat_id2@1": {"q0": "p1 p0", "q1": "p6", "q2": "p3", "q3": "p2 p20"},
    "tiger": {"q0": "p7 p0", "q1": "p6 p9", "q2": "p20", "q5": "p8"},
    "bm25": {"q0": "p0 p1", "q2": "p1 p13"},
}


def make(root, titles=TITLES, systems=tuple(RUNS), queries=QUERIES, qrels=QRELS, runs=RUNS):
    """A finished work directory of these systems."""
    values = default_config()
    values.systems = systems
    values.evaluate.cutoffs = (1, 2, 10)
    values.retrieve.update(k=10, beams=10)
    config, workdir = freeze(values), Workdir(root)
    products = [Product(i, t, "", p) for i, t, p in zip(IDS, titles, PATHS, strict=True)]
    write_columns(workdir.catalog, enumerate(products))
    for split, texts in queries.items():
        lines = (json.dumps({"id": i, "text": text}) for i, text in texts.items())
        workdir.queries(split).write_text("\n".join(lines), "utf-8")
        judged = ((q, p, g) for q, found in qrels[split].items() for p, g in found.items())
        workdir.qrels(split).write_text("".join(f"{q} 0 {p} {g}\n" for q, p, g in judged))
    noise = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
    write_npy(root / "embeddings.npy", np.repeat(np.eye(4, dtype=np.float32), 6, 0) + 0.01 * noise)
    write_json(root / "steps" / "prepare.metrics.json", {"documents": 24, "test_queries": 5})
    record(root, "prepare", config, ("data",))
    for name, system in resolve_systems(config).items():
        folder = place_of(system, config, workdir).folder
        if name in CODES:
            write_docids(folder / "docids.jsonl", DocidTable(IDS, CODES[name], None, 8))
            write_json(folder / "steps" / "docids.metrics.json", {"collision_rate": 0.25})
            shape = {"levels": 3, "codebook_size": 8}
            record(folder, "docids", system.config, ("rqvae",), system.entry, shape)
            with MetricWriter(folder / "seq2seq", 0) as writer:
                for step in range(5):
                    writer.write(step, {"loss": 5.0 - step})
        hits = {q: [(p, -float(n)) for n, p in enumerate(h.split())] for q, h in runs[name].items()}
        write_run(folder / "run.trec", hits.items(), "test")
        record(folder, "retrieve", system.config, ("retrieve",), system.entry)
    record(root, "evaluate", config, evaluate.READS)
    return root


def record(folder, step, config, reads, entry="", result=()):
    """The record of a step that is done."""
    values = relevant_values(config, reads)
    made = Record(values, entry, True, 2.0, dict(result), {}, {}, "2026-01-01 00:00:00 UTC", 2**30)
    write_record(record_path(folder, step), made)
