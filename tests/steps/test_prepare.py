"""Which rows of the user's files the prepared ones are."""

import gc
import json
import tracemalloc

import numpy as np
import pytest

from catid2_jax.config import default_config, freeze
from catid2_jax.data.corpus import Catalog
from catid2_jax.data.queries import read_queries
from catid2_jax.errors import InputError
from catid2_jax.steps import prepare
from catid2_jax.steps.chain import run_until
from catid2_jax.workdir import Workdir, read_record, record_path

PATH = ["A", "B", "C"]


@pytest.mark.parametrize("in_memory", [1, 2, 1000])
def test_a_bad_line_that_is_set_aside_keeps_its_row_of_vectors(tmp_path, monkeypatch, in_memory):
    """However many ids are in memory."""
    monkeypatch.setattr("catid2_jax.data.seen_ids._IN_MEMORY", in_memory)
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


def binary(tmp_path, train="q 0 a 3\n", test="q 0 a 3\n", **preprocessing):
    """The work directory of a product and a query with these judgements, prepared."""
    record = {"id": "a", "title": "first", "categories": PATH}
    prepared(tmp_path, json.dumps(record), train, test, **preprocessing)


def prepared(tmp_path, catalog, train="q 0 a 3\n", test="q 0 a 3\n", **preprocessing):
    """The work directory of a catalogue's lines, and of three queries with these judgements."""
    (tmp_path / "catalog.jsonl").write_text(catalog)
    queries = [{"id": name, "text": "any"} for name in ("q", "x", "y")]
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    config = default_config()
    config.data.update(catalog=str(tmp_path / "catalog.jsonl"))
    config.data.preprocessing.update(preprocessing)
    for split, qrels in (("train", train), ("test", test)):
        (tmp_path / f"{split}.qrels").write_text(qrels)
        config.data[f"{split}_queries"] = str(tmp_path / "queries.jsonl")
        config.data[f"{split}_qrels"] = str(tmp_path / f"{split}.qrels")
    run_until(freeze(config), Workdir(tmp_path / "work"), "prepare")


def test_judgements_on_products_that_are_dropped_and_on_none(tmp_path, capsys):
    records = [
        {"id": "a", "title": "kept", "categories": PATH},
        {"id": "flat", "title": "dropped for its depth", "categories": ["A"]},
    ]
    lines = "\n".join(map(json.dumps, records))
    prepared(tmp_path, lines, train="q 0 a 3\nq 0 flat 3\n")
    assert "  training on dropped products: 1\n" in capsys.readouterr().out
    assert (tmp_path / "work/data/qrels.train.txt").read_text() == "q 0 a 3\n"
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(InputError) as caught:
        prepared(other, lines, test="q 0 flat 3\nq 0 none 3\nq 0 a 9\n")
    assert caught.value.where == f"{other}/test.qrels:2"
    assert (caught.value.found, caught.value.expected) == (
        "document 'none'",
        "one of the catalogue",
    )


def test_what_python_holds_does_not_grow_with_the_catalogue(tmp_path, monkeypatch):
    monkeypatch.setattr("catid2_jax.data.seen_ids._IN_MEMORY", 100)
    monkeypatch.setattr("catid2_jax.data.corpus._ROWS_AT_ONCE", 100)
    held, report = [], prepare._report

    def spy(*arguments):
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
        report(*arguments)

    monkeypatch.setattr(prepare, "_report", spy)
    for count in (100, 300, 2300):
        records = [{"id": f"p{n}", "title": "t", "categories": [*PATH, "D"]} for n in range(count)]
        folder = tmp_path / f"{count}"
        folder.mkdir()
        lines = "\n".join(map(json.dumps, records))
        del records
        tracemalloc.start()
        prepared(folder, lines, train="q 0 p0 3\n", test="q 0 p0 3\n")
        tracemalloc.stop()
    ids = 2000 * 50  # bytes of those of 2,000 products, and not of their places in sets
    assert held[2] - held[1] < ids / 2


def test_queries_without_judgements_are_said(tmp_path, capsys):
    binary(tmp_path, train="q 0 a 3\nx 0 a 2\n")
    output = capsys.readouterr().out
    assert "  train queries without judgements: 1\n" in output
    assert "  test queries without judgements: 2\n" in output
    figures = json.loads((tmp_path / "work/steps/prepare.metrics.json").read_text())
    assert figures["test_queries_without_judgements"] == 2


def test_binary_judgements_are_said_to_be_complements(tmp_path):
    with pytest.raises(InputError) as caught:
        binary(tmp_path, train="q 0 a 1\nx 0 a 0\n")
    assert str(caught.value) == (
        f"{tmp_path}/train.qrels: found all 2 judgements with grade 0 (irrelevant) and "
        "1 (complement), none of config.data.preprocessing.training_labels = ('E', 'S'), expected "
        "grade 3 where a product is relevant, or training_labels = ('C',) if 1 says so"
    )
    with pytest.raises(InputError, match=r"test.qrels: found all 1 .*relevant_labels = \('E', 'S'"):
        binary(tmp_path, test="q 0 a 1\n")
    labels = {"training_labels": ("C",), "relevant_labels": ("C",)}
    binary(tmp_path, train="q 0 a 1\n", test="q 0 a 1\n", **labels)
