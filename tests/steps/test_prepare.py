"""Which rows of the user's files the prepared ones are."""

import json

import numpy as np

from catid2_jax.config import default_config, freeze
from catid2_jax.steps import embed, prepare
from catid2_jax.steps.workdir import Workdir

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
    (tmp_path / "queries.jsonl").write_text('{"id": "q", "text": "any"}\n')
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
    prepare.run(freeze(config), workdir)
    embed.run(freeze(config), workdir)
    assert workdir.embeddings.with_suffix(".ids.txt").read_text() == "a\nb\nc\n"
    np.testing.assert_array_equal(np.load(workdir.embeddings), vectors[[0, 3, 5]])
