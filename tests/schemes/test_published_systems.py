"""Whole runs of the systems of other papers, from a catalogue to their rows in the table."""

import json
import pathlib

import numpy as np
import pytest

from catid2_jax import pipeline
from catid2_jax.data.corpus import Catalog
from catid2_jax.docids.table import read_docids

TINY = pathlib.Path(__file__).parent.parent / "plugins" / "tiny.py"
TRAINED = ("dsi_naive", "dsi_semantic", "hi_gen", "nci", "letter", "genret", "cq_sid", "hiergr")
FIELDS = (
    f"systems={TRAINED}",
    "options.genret.levels=3",
    "options.genret.codebook_size=8",
    "options.genret.steps=5",
    "options.genret.hidden_dims=(8,)",
    "options.tree_kmeans.leaf_size=8",
    "seq2seq_training.epochs=1",
)


@pytest.mark.slow
def test_every_system_is_trained_and_has_its_row(tmp_path):
    flags = [f"--config.{field}" for field in FIELDS]
    pipeline.main(["pipeline", f"--config={TINY}", f"--workdir={tmp_path}", *flags])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    catalog = Catalog.open(tmp_path / "data" / "catalog.parquet")
    for name in TRAINED:
        table = read_docids(tmp_path / name / "docids.jsonl")
        assert list(table.ids) == catalog.ids
        assert 0 <= metrics[f"{name}/recall@5"] <= metrics[f"{name}/recall@10"] <= 1
    first = read_docids(tmp_path / "hi_gen" / "docids.jsonl").codes[:, :2]
    paths = [path[:2] for path in catalog.paths]
    for one, other in np.ndindex(len(paths), len(paths)):
        assert (first[one] == first[other]).all() == (paths[one] == paths[other])
    losses = [metrics[f"genret/auto_encoding/level_{level}"] for level in (1, 2, 3)]
    assert losses[0] > losses[1] > losses[2]
