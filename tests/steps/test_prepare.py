"""Which rows of the user's files the prepared ones are."""

import json

import numpy as np

from catid2_jax.config import default_config, freeze
from catid2_jax.data.corpus import Catalog
from catid2_jax.data.queries import read_queries
from catid2_jax.steps.chain import run_until
from catid2_jax.workdir import Workdir, read_record, record_path

PATH = ["A", "B", "C"]


def test_a_bad_line_that_is_set_aside_keeps_its_row_of_vectors(tmp_path):
    records = [
        {"id": "a", "title": "first", "categories": PATH},
        {"id": "bad", "title": "no categories"},
        {"id": "flat", "title": "dropped for its depth", "categories": ["A"]},
        {"id": "b", "title": "second", "categories": PATH},
        {"id": "a", "title": "a second a", "categories": PATH},
        {"id": "c", "title": "third", "categories": PATH},
    ]
    (tmp_path / "catalog.jsonl").write_text("\n".join(map(json.dumps, records)))
    queries = ['{"id": "unjudged", "text": "any"}', '{"id": "q", "text": "any"}']
    (tmp_path / "queries.jsonl").write_text("\n".join(queries))
    (tmp_path / "qrels.txt").write_text("q 0 a 3\nq 0 c 3\n")
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.save(tmp_path / "vectors.npy", vectors)
    config = default_config()
    config.data.update(catalog=str(tmp_path / "catalog.jsonl"), on_error="skip")
    for split in ("train", "test"):
        config.data[f"{split}_queries"] = str(tmp_path / "queries.jsonl")
        config.data[f"{split}_qrels"] = str(tmp_path / "qrels.txt")
    config.embedding.update(encoder="precomputed", path=str(tmp_path / "vectors.npy"))
    workdir = Workdir(tmp_path / "work")
    run_until(freeze(config), workdir, "embed")
    catalog = Catalog.open(workdir.catalog)
    assert catalog.ids == ["a", "b", "c"]
    assert catalog.titles == ["first", "second", "third"]
    assert catalog.source_rows.tolist() == [0, 3, 5]
    np.testing.assert_array_equal(np.load(tmp_path / "work/embeddings.npy"), vectors[[0, 3, 5]])
    for split in ("train", "test"):
        (query,) = read_queries(workdir.queries(split))
        assert (query.id, query.extra["source_row"]) == ("q", 1)
    record = read_record(record_path(workdir.root, "prepare"))
    counts = {"products": 6, "train_queries": 2, "test_queries": 2}
    assert record.result == {"source_rows": counts}
