"""A file that has changed since its step left it is refused, by name, by whatever reads it."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

import catid2_jax
from catid2_jax import export
from catid2_jax.checkpoints.folder import read_checkpoint
from catid2_jax.config import freeze
from catid2_jax.errors import InputError
from catid2_jax.files import write_npy
from catid2_jax.records import Record, check_files, finish, read_record, write_record
from catid2_jax.steps.chain import run_until
from catid2_jax.workdir import Workdir, record_path
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


def make_anew(folder, step, name, change):
    """Changes a file as its step would have, run again with another result."""
    change(folder / name)
    path = record_path(folder, step)
    write_record(path, finish(read_record(path), folder, (name,), 1.0))


BUILT_ON = [
    ("", "prepare", "data/catalog.parquet", flip_a_bit, "", "embed", "{0}/steps/embed.json"),
    ("", "embed", "embeddings.npy", reverse_rows, "cat_id2", "docids", "{0}/cat_id2"),
    (
        *("cat_id2", "docids", "docids.jsonl", reverse_lines, "cat_id2", "train_seq2seq"),
        "{0}/cat_id2/steps/train_seq2seq.json and {0}/cat_id2/seq2seq",
    ),
]


@pytest.mark.parametrize(
    ("folder", "step", "name", "change", "of", "later", "delete"),
    BUILT_ON,
    ids=[later for *_, later, _ in BUILT_ON],
)
def test_what_was_built_on_another_result_is_refused(
    copy, folder, step, name, change, of, later, delete
):
    make_anew(copy / folder, step, name, change)
    file = (copy / folder / name).relative_to(copy)
    record = record_path(copy / of, later)
    metrics = (copy / "metrics.json").read_bytes()
    for done in (False, True):  # also where it was interrupted, and would go on
        write_record(record, dataclasses.replace(read_record(record), done=done))
        if not done and later == "embed":
            continue  # it begins anew
        with pytest.raises(InputError) as error:
            run_until(freeze(tiny.get_config()), Workdir(copy), "evaluate")
        assert error.value.where == str(copy / of).rstrip("/")
        assert error.value.found == (
            f"its step {later}, which was built on another {file} than that of now"
        )
        assert f"delete {delete.format(copy)} and run the same" in error.value.expected
    assert (copy / "metrics.json").read_bytes() == metrics
    with pytest.raises(InputError, match="built on another"):
        catid2_jax.load(copy)


def test_a_ranking_of_another_result_is_made_anew(copy, capsys):
    """By BM25, whose ranking nothing is built on."""
    run = (copy / "bm25/run.trec").read_bytes()
    path = record_path(copy / "bm25", "retrieve")
    record = read_record(path)
    built_on = dict(record.built_on) | {"data/catalog.parquet": "another"}
    write_record(path, dataclasses.replace(record, built_on=built_on))
    (copy / "bm25/run.trec").unlink()
    run_until(freeze(tiny.get_config()), Workdir(copy), "evaluate")
    shown = capsys.readouterr().out
    assert "bm25 retrieve: done before with another data/catalog.parquet, so once more" in shown
    assert (copy / "bm25/run.trec").read_bytes() == run
    assert dict(read_record(path).built_on) == dict(record.built_on)
    run_until(freeze(tiny.get_config()), Workdir(copy), "evaluate")
    assert "once more" not in capsys.readouterr().out


def test_every_step_knows_what_it_is_built_on(copy):
    names = {
        "embed": {"data"},
        "cat_id2/docids": {"data", "embeddings.npy"},
        "cat_id2/train_seq2seq": {
            *("data", "embeddings.npy", "cat_id2/docids.jsonl", "vocabulary.model")
        },
    }
    names["cat_id2/retrieve"] = names["cat_id2/train_seq2seq"] | {"cat_id2/seq2seq"}
    for path, expected in names.items():
        folder, _, step = path.rpartition("/")
        found = read_record(record_path(copy / folder, step)).built_on
        shown = {re.sub(r"^(data|cat_id2/seq2seq)/.*", r"\1", name) for name in found}
        assert shown == expected


def damage_checkpoint(folder):
    """Flips a bit in the newest checkpoint of a folder; returns its path."""
    newest = max(folder.iterdir(), key=lambda path: int(path.name))
    flip_a_bit(max(newest.rglob("d/*"), key=lambda path: path.stat().st_size))
    return newest


READERS = {
    "retrieve": lambda folder: run_until(freeze(tiny.get_config()), Workdir(folder), "retrieve"),
    "load": catid2_jax.load,
    "export": lambda folder: export.run(freeze(tiny.get_config()), Workdir(folder)),
    "convert": read_checkpoint,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_checkpoint_of_a_finished_training_is_refused(copy, reader):
    newest = damage_checkpoint(copy / "cat_id2/seq2seq/last")
    record_path(copy / "cat_id2", "retrieve").unlink()
    with pytest.raises(InputError) as error:
        READERS[reader](copy)
    assert error.value.where == str(newest)
    assert error.value.found == "no whole checkpoint, though the training ended with it"
    path = record_path(copy / "cat_id2", "train_seq2seq")
    assert f"delete {path} and" in error.value.expected


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
