"""A file that has changed since its step left it is refused, by name, by whatever reads it."""

import json
import re
import shutil

import numpy as np
import pytest

import catid2_jax
from catid2_jax.config import freeze
from catid2_jax.errors import InputError
from catid2_jax.files import write_npy
from catid2_jax.records import Record, check_files, finish, read_record, write_record
from catid2_jax.steps.chain import run_until
from catid2_jax.workdir import Workdir
from tests.plugins import tiny


def reverse_lines(path):
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))


def reverse_rows(path):
    write_npy(path, np.load(path)[::-1])


def cut_at_a_line_end(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: len(lines) // 2]))


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path):
    path.unlink()


CHANGES = [
    ("embeddings.npy", reverse_rows),
    ("data/catalog.parquet", flip_a_bit),
    ("data/queries.test.jsonl", cut_at_a_line_end),
    ("data/qrels.test.txt", reverse_lines),
    ("cat_id2/docids.jsonl", reverse_lines),
    ("cat_id2/steps/docids.metrics.json", remove),
    ("vocabulary.model", flip_a_bit),
    ("cat_id2/run.trec", cut_at_a_line_end),
    ("bm25/run.trec", remove),
]


@pytest.fixture
def copy(tiny_workdir, tmp_path):
    return shutil.copytree(tiny_workdir, tmp_path / "work")


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=[name for name, _ in CHANGES])
def test_evaluation_refuses_what_has_changed(copy, name, change):
    metrics = (copy / "metrics.json").read_bytes()
    change(copy / name)
    with pytest.raises(InputError, match=r"since the step") as error:
        run_until(freeze(tiny.get_config()), Workdir(copy), "evaluate")
    assert error.value.where == str(copy / name)
    step = {"run.trec": "retrieve", "vocabulary.model": "vocabulary", "embeddings.npy": "embed"}
    step = step.get(name.rpartition("/")[2], "prepare" if name.startswith("data") else "docids")
    assert re.search(rf"since the step {step} left it at \d{{4}}-", error.value.found)
    assert f"steps/{step}.json and run the same command again" in error.value.expected
    assert (copy / "metrics.json").read_bytes() == metrics


def test_what_the_error_says_to_do_helps(copy):
    """Made anew, the file is the same as before, and so are the figures."""
    path, metrics = copy / "bm25/run.trec", (copy / "metrics.json").read_bytes()
    run = path.read_bytes()
    cut_at_a_line_end(path)
    (copy / "bm25/steps/retrieve.json").unlink()
    run_until(freeze(tiny.get_config()), Workdir(copy), "evaluate")
    assert path.read_bytes() == run
    assert (copy / "metrics.json").read_bytes() == metrics


@pytest.mark.parametrize("name", ["cat_id2/docids.jsonl", "data/catalog.parquet"])
def test_loading_refuses_what_has_changed(copy, name):
    flip_a_bit(copy / name)
    with pytest.raises(InputError, match=r"other contents .* changed since the step"):
        catid2_jax.load(copy)


def test_a_changed_record_is_refused(copy):
    path = copy / "cat_id2/steps/docids.json"
    values = json.loads(path.read_text())
    values["result"]["levels"] = 2
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="a record that has changed since it was written"):
        catid2_jax.load(copy)


def test_a_record_names_what_a_step_has_left(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.txt").write_text("a\n")
    (tmp_path / "b.txt").write_text("b\n")
    path = tmp_path / "steps/some.json"
    write_record(path, finish(Record({}), tmp_path, ("data/*",), 1.0))
    assert {name: size for name, (size, _) in read_record(path).files.items()} == {"data/a.txt": 2}
    check_files(path)
    (tmp_path / "b.txt").write_text("other\n")
    check_files(path)
    (tmp_path / "data/a.txt").write_text("longer\n")
    check_files(path, ("b*",))
    with pytest.raises(InputError, match=r"7 bytes instead of 2 .* changed since the step some"):
        check_files(path)
