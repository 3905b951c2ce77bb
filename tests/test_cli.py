"""The command line; bad input of every kind: a clear line, exit code 2, nothing half-written."""

import dataclasses
import importlib
import json
import pathlib
import runpy
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors import SafetensorError

from catid2_jax import cli
from catid2_jax.config import default_config, freeze
from catid2_jax.config_help import described_fields
from catid2_jax.data.corpus import Catalog
from catid2_jax.errors import InputError
from catid2_jax.processes import VARIABLES
from catid2_jax.steps import train_seq2seq
from catid2_jax.steps.chain import run_until
from catid2_jax.workdir import Record, record_path, relevant_values, write_record

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "quickstart.py"


def write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture
def data(tmp_path):
    """A small data set that is right; the tests spoil it."""
    directory = tmp_path / "input"
    directory.mkdir()
    products = [
        {"id": f"p{i}", "title": f"thing {i}", "categories": ["A", f"B{i % 2}", f"C{i % 4}"]}
        for i in range(8)
    ]
    write_lines(directory / "catalog.jsonl", map(json.dumps, products))
    for split in ("train", "test"):
        queries = [{"id": f"{split}{i}", "text": f"a thing {i}"} for i in range(8)]
        write_lines(directory / f"queries.{split}.jsonl", map(json.dumps, queries))
        write_lines(directory / f"qrels.{split}.txt", [f"{split}{i} 0 p{i} 3" for i in range(8)])
    return directory


def run(data, *arguments, step="embed", workdir=None, config=CONFIG):
    """Runs the chain up to `step` on `data`; returns the exit code."""
    paths = [f"--config.data.catalog={data / 'catalog.jsonl'}"]
    for split in ("train", "test"):
        paths.append(f"--config.data.{split}_queries={data / f'queries.{split}.jsonl'}")
        paths.append(f"--config.data.{split}_qrels={data / f'qrels.{split}.txt'}")
    workdir = workdir or data.parent / "work"
    argv = ["verb", f"--config={config}", f"--workdir={workdir}", *paths, *map(str, arguments)]
    try:
        cli.main(lambda config, workdir: run_until(config, workdir, step), "", argv)
    except SystemExit as error:
        return error.code
    return 0


def spoil(path, number, line):
    """Replaces a line (from 1) of a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number - 1] = line
    write_lines(path, lines)


def refused(capsys, code, *expected):
    """One line on standard error that holds `expected`, exit code 2."""
    lines = capsys.readouterr().err.splitlines()
    assert code == 2, lines
    assert len(lines) == 1, lines
    for text in expected:
        assert text in lines[0]


BAD_PRODUCTS = {
    "malformed JSON": ('{"id": "p2", ', "invalid JSON"),
    "missing id": ('{"title": "x", "categories": ["A", "B", "C"]}', "'id'"),
    "duplicate id": ('{"id": "p0", "title": "x", "categories": ["A", "B", "C"]}', "'p0' again"),
    "empty title": ('{"id": "p2", "title": " ", "categories": ["A", "B", "C"]}', "title"),
    "no categories": ('{"id": "p2", "title": "x", "categories": []}', "categories"),
    "empty name": ('{"id": "p2", "title": "x", "categories": ["A", "", "C"]}', "category ''"),
}


@pytest.mark.parametrize("case", BAD_PRODUCTS)
def test_bad_product(data, capsys, case):
    line, expected = BAD_PRODUCTS[case]
    spoil(data / "catalog.jsonl", 3, line)
    refused(capsys, run(data), f"{data / 'catalog.jsonl'}:3: found", expected, "expected")
    assert not (data.parent / "work" / "data" / "catalog.parquet").exists()


def test_bad_products_are_set_aside_and_counted_when_asked(data, capsys):
    spoil(data / "catalog.jsonl", 3, "nonsense")
    spoil(data / "catalog.jsonl", 6, '{"id": "p5", "title": ""}')
    assert run(data, "--config.data.on_error=skip") == 0
    work = data.parent / "work"
    assert "2 bad records set aside" in capsys.readouterr().out
    rejected = [json.loads(s) for s in (work / "data/rejected.jsonl").read_text().splitlines()]
    assert [r["line"] for r in rejected] == [3, 6]
    catalog = Catalog.open(work / "data/catalog.parquet")
    assert len(np.load(work / "embeddings.npy")) == len(catalog)
    assert catalog.ids == ["p0", "p1", "p3", "p4", "p6", "p7"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [("train2 0 nobody 3", "document 'nobody'"), ("nobody 0 p2 3", "query 'nobody'")],
)
def test_qrels_of_what_does_not_exist(data, capsys, line, expected):
    spoil(data / "qrels.train.txt", 3, line)
    refused(capsys, run(data), f"{data / 'qrels.train.txt'}:3: found {expected}")


@pytest.mark.parametrize("split", ["train", "test"])
def test_qrels_without_positives(data, capsys, split):
    lines = [f"{split}{i} 0 p{i} 0" for i in range(8)]
    write_lines(data / f"qrels.{split}.txt", lines)
    refused(
        capsys,
        run(data),
        f"{data / f'qrels.{split}.txt'}: found all 8 ju",
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_empty_query(data, capsys, split):
    spoil(data / f"queries.{split}.jsonl", 3, f'{{"id": "{split}2", "text": "  "}}')
    refused(
        capsys,
        run(data),
        f"{data / f'queries.{split}.jsonl'}:3: found text '  ', expected text that is not blank",
    )


def test_query_of_100_000_characters(data):
    text = "a very long thing " * 6000
    spoil(data / "queries.train.jsonl", 3, json.dumps({"id": "train2", "text": text}))
    assert run(data) == 0
    kept = (data.parent / "work/data/queries.train.jsonl").read_text().splitlines()
    assert json.loads(kept[2])["text"] == text


def given_ids(data, rows):
    """Flags for the system "given" with these codes for p0, p1, ..."""
    path = data / "docids.jsonl"
    write_lines(path, [json.dumps({"id": f"p{i}", "codes": row}) for i, row in enumerate(rows)])
    return f"--config.docids.path={path}", "--config.systems=given"


DOCIDS = {
    "other K": ([256, 0, 0, 0], ":1: found code 256, expected 0 to 255"),
    "beyond integers": ([2**40, 0, 0, 0], ":1: found codes [1099511627776, 0, 0, 0], expected"),
    "negative": ([-1, 0, 0, 0], ":1: found codes [-1, 0, 0, 0], expected integers of 0"),
}


@pytest.mark.parametrize("case", DOCIDS)
def test_ids_outside_of_the_models(data, capsys, case):
    first, expected = DOCIDS[case]
    flags = given_ids(data, [first, *([i, *first[1:]] for i in range(1, 8))])
    code = run(data, *flags, "--config.docids.path_codebook_size=256", step="docids")
    refused(capsys, code, f"{data / 'docids.jsonl'}{expected}")
    assert not (data.parent / "work" / "given" / "docids.jsonl").exists()


def test_given_ids_need_the_system_that_reads_them(data, capsys):
    path, _ = given_ids(data, [[i, 0] for i in range(8)])
    refused(capsys, run(data, path), "config.docids.path: found ", "the system 'given' among them")
    assert not (data.parent / "work").exists()


def test_vocabulary_that_is_not_the_trained_models(data, capsys):
    """By name and by contents, before anything else is done."""
    path = data / "one.model"
    path.write_bytes(b"one")
    given = freeze(default_config())
    section = dataclasses.replace(given.seq2seq, vocabulary=str(path))
    trained = dataclasses.replace(given, seq2seq=section)
    values = relevant_values(trained, train_seq2seq.READS)
    folder = data.parent / "work" / "cat_id2"
    write_record(
        record_path(folder, "train_seq2seq"), Record(values, "cat_id2", done=True, seconds=1.0)
    )
    config = data / "config.py"
    config.write_text("from catid2_jax.config import default_config as get_config\n")

    def refused_with(vocabulary, *expected):
        argument = f"--config.seq2seq.vocabulary={vocabulary}"
        code = run(data, argument, step="retrieve", config=config)
        start = f"error: {folder}: found its step train_seq2seq, which was made with "
        refused(capsys, code, start, "another --workdir", *expected)
        assert not (data.parent / "work" / "data").exists()

    refused_with("", f"config.contents of files.{path} = ", "and now None")
    path.write_bytes(b"another")
    refused_with(path, f"config.contents of files.{path} = ", "and now '")


def test_no_pair_has_a_weight(data, capsys):
    write_lines(data / "qrels.train.txt", [f"train{i} 0 p{i} 2" for i in range(8)])
    weights = [f"--config.seq2seq.{name}_weight=0" for name in ("title", "substitute")]
    given = given_ids(data, [[i, 0, 0, 0] for i in range(8)])
    refused(
        capsys,
        run(data, *given, *weights, step="train_seq2seq"),
        "training pairs: found none with a weight, expected some: raise title_weight or subst",
    )


def test_table_1_counts_the_pairs_that_are_used(data):
    # Of the judgements of train1 and test1, grade 1 is neither trained on nor counted as found.
    spoil(data / "qrels.train.txt", 2, "train1 0 p1 1")
    with open(data / "qrels.test.txt", "a") as file:
        file.write("test0 0 p2 1\ntest0 0 p3 2\n")
    assert run(data, step="prepare") == 0
    metrics = json.loads((data.parent / "work/steps/prepare.metrics.json").read_text())
    assert (metrics["documents"], metrics["train_pairs"], metrics["train_queries"]) == (8, 7, 7)
    # test1's document p1 is now seen by no training pair; test0 has p0 and p3.
    assert (metrics["test_pairs"], metrics["test_queries"]) == (8, 7)
    qrels = (data.parent / "work/data/qrels.test.txt").read_text().splitlines()
    assert "test0 0 p2 1" in qrels


def test_bad_embeddings(data, capsys):
    path = data / "x.npy"
    arguments = ("--config.embedding.encoder=precomputed", f"--config.embedding.path={path}")
    np.save(path, np.zeros((7, 4)))
    refused(capsys, run(data, *arguments), f"{path}: found 7 embeddings, expected 8")
    np.save(path, np.where(np.arange(32).reshape(8, 4) == 9, np.nan, 1.0))
    refused(capsys, run(data, *arguments), f"{path}: found NaN or infinity in 1 rows", "row 2")
    assert not (data.parent / "work" / "embeddings.npy").exists()


def test_embeddings_follow_the_products_that_are_kept(data):
    spoil(data / "catalog.jsonl", 3, '{"id": "p2", "title": "shallow", "categories": ["A"]}')
    np.save(data / "x.npy", np.arange(32, dtype=np.float32).reshape(8, 4))
    arguments = (
        "--config.embedding.encoder=precomputed",
        f"--config.embedding.path={data / 'x.npy'}",
    )
    assert run(data, *arguments) == 0
    kept = np.load(data.parent / "work" / "embeddings.npy")
    np.testing.assert_array_equal(kept[:, 0], [0, 4, 12, 16, 20, 24, 28])


BAD_ARGUMENTS = {
    "--config.rqvae.levelz=3": "config.rqvae.levelz: found no such field, expected config.rqvae.le",
    "--config.levels=3": "config.levels: found no such field, expected config.rqvae.levels",
    "--config.rqvae.levels=many": "config.rqvae.levels: found 'many', expected an integer",
    "--config.rqvae.levels": "--config.rqvae.levels: found no value, expected --config.rqvae.leve",
    "--config.rqvae.category_levels=4": (
        "config.rqvae.category_levels: found 4 with 4 levels, expected category_levels < "
    ),
    "--config.rqvae.codebook_size=0": "config.rqvae.codebook_size: found 0, expected at least 1",
    "--config.embedding.encoder=bert": (
        "config.embedding.encoder: found 'bert', expected one of lsa, t5, sentence_transformers, "
    ),
    "--config.embedding.encoder=no.such:Encoder": (
        "config.embedding.encoder: found 'no.such:Encoder', whose import fails with ModuleNotFo"
    ),
    "--config.seq2seq.decoder=gpt": "config.seq2seq.decoder: found 'gpt', expected one of t5, bert",
    "--config.seq2seq.decoder=no.such:Decoder": (
        "config.seq2seq.decoder: found 'no.such:Decoder', whose import fails with "
    ),
    "--config.retrieve.k=101": "config.retrieve.k: found 101, expected 1 to beams = 100",
    "--config.rqvae=3": "config.rqvae: found '3', expected fields of the section",
    "--config.seq2seq_training.best_metric=nosuch": (
        "config.seq2seq_training.best_metric: found 'nosuch', expected one of dev/recall@5, "
    ),
    "--config.rqvae_training.best_metric=nosuch": (
        "config.rqvae_training.best_metric: found 'nosuch', expected one of collision_rate, "
    ),
    "--config.t5.dtype=foo": "config.t5.dtype: found 'foo', expected one of 'float32', 'bfloat16'",
    "--config.retrieve.output=/tmp/x": (
        "config.retrieve.output: found '/tmp/x', expected the name of a file, without a folder"
    ),
    "--config.retrieve.output=docids.jsonl": (
        "config.retrieve.output: found 'docids.jsonl', expected another name than those of a sys"
    ),
    "--config.retrieve.output=steps": "config.retrieve.output: found 'steps', expected another",
    "--config.retrieve.beams=0": "config.retrieve.beams: found 0, expected at least 1",
    "--config.systems=('lightgcn',)": (
        "config.systems: found 'lightgcn', expected some of cat_id2, cat_id2_literal, tiger"
    ),
    "--config.systems=no.such:System": "config.systems: found 'no.such:System', whose import fails",
    "--config.systems=collections:Counter": (
        "config.systems: found 'collections:Counter', a type, expected a scheme, a retriever or a S"
    ),
    "--config.options.bm25.k1=2": (
        "config.options.bm25: found option 'k1' for BM25Retriever, expected some of tokens"
    ),
    "--config.options.bm52.k1=2": "config.options: found 'bm52', expected some of bm25, ",
    "--config.data.test_queries=": "config.data.test_queries: found '', expected a path, since ca",
    "--config.data.dev_queries=x.jsonl": (
        "config.data.dev_qrels: found '', expected both of dev_queries and dev_qrels, or neither"
    ),
    "--nonsense=1": "command line: found the flag --nonsense, expected one that --help lists",
    "stray": "command line: found the argument 'stray', expected flags only",
    "--workdir": "--workdir: found no value, expected --workdir=...",
    "--config": "--config: found no value, expected --config=...",
    "--config=": "--config: found none, expected a file or a name, such as --config=quickstart",
    "--config=nothing": "--config: found 'nothing', expected a file or one of paper/table2, quick",
    "--distributed=maybe": "--distributed: found 'maybe', expected True or False",
}


@pytest.mark.parametrize("argument", BAD_ARGUMENTS)
def test_bad_command_lines(data, capsys, argument):
    refused(capsys, run(data, argument), f"error: {BAD_ARGUMENTS[argument]}")
    assert not (data.parent / "work").exists()


def test_more_documents_than_ids(data, capsys):
    # 8 documents, K^L = 2^2 = 4.
    code = run(
        data,
        "--config.rqvae.levels=2",
        "--config.rqvae.codebook_size=2",
        "--config.rqvae.category_levels=1",
        step="docids",
    )
    refused(capsys, code, "found 8 documents, expected at most K^L = 2^2 = 4")
    # It is said before the training.
    assert not (data.parent / "work" / "cat_id2" / "rqvae").exists()


def test_work_directory_of_another_configuration(data, capsys):
    assert run(data) == 0
    before = (data.parent / "work" / "embeddings.npy").read_bytes()
    capsys.readouterr()
    refused(
        capsys,
        run(data, "--config.embedding.dim=3"),
        "step embed, which was made with config.embedding.dim = 256, and now 3, expected the same",
    )
    refused(capsys, run(data, "--config.seed=1"), "config.seed = 0, and now 1")
    assert (data.parent / "work" / "embeddings.npy").read_bytes() == before


SYSTEM_ERRORS = {
    "a full disk": (OSError(28, "No space left on device", "a.npy"), "a.npy: found No space left"),
    "no permission": (PermissionError(13, "Permission denied", "b"), "b: found Permission denied"),
    "a disk that writes no more": (
        OSError(30, "Read-only file system"),
        "found Read-only file",
    ),
    "memory": (MemoryError(), "found no memory left"),
    "TensorStore's": (
        ValueError("INTERNAL: Error writing [OS error 28: ENOSPC No space left on device]"),
        "found INTERNAL: Error writing [OS error 28",
    ),
    "safetensors'": (
        SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
        "found Error while serializing: I/O error: File too large",
    ),
}


@pytest.mark.parametrize("case", SYSTEM_ERRORS)
def test_errors_of_the_operating_system_are_one_line(capsys, case):
    error, expected = SYSTEM_ERRORS[case]
    with pytest.raises(SystemExit) as end, cli.exit_codes():
        raise error
    refused(capsys, end.value.code, f"error: {expected}")


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ValueError, match="ours"), cli.exit_codes():
        raise ValueError("ours")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_command_by_their_codes(capsys, number, code):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit) as end, cli.exit_codes():
        signal.raise_signal(number)
    assert end.value.code == code
    assert capsys.readouterr().err.endswith("; the same command goes on from here\n")
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_work_directory_that_is_a_file(data, capsys):
    place = data.parent / "file"
    place.write_text("x")
    refused(
        capsys,
        run(data, workdir=place, step="prepare"),
        f"error: {place}: found a file, expected a folder",
    )


@pytest.mark.parametrize("name", ["embeddings.npy", "steps/prepare.json"])
def test_damaged_files_of_a_work_directory_are_named(data, capsys, name):
    flags = ["--config.systems=random_ids"]
    assert run(data, *flags) == 0
    capsys.readouterr()
    path = data.parent / "work" / name
    path.write_bytes(path.read_bytes()[:20])
    refused(capsys, run(data, *flags, step="docids"), f"error: {path}: found")


@pytest.mark.parametrize(
    ("left", "begun"),
    [
        ((), False),
        (("rqvae/events.out.tfevents.1", "rqvae/not_finite.json", "rqvae/.best.json.tmp"), False),
        (("rqvae/plugins/profile/steps_1_2/host.xplane.pb",), False),
        (("rqvae/last/8.orbax-checkpoint-tmp-1/a", "vocabulary.model", "seq2seq/last/8/a"), False),
        (("rqvae/last/8/default/a",), True),
        (("own/state.npz",), True),
    ],
)
def test_a_step_that_has_left_nothing_may_be_tried_with_another_configuration(
    data, capsys, left, begun
):
    """What it has left when it is killed or fails, whatever by."""
    flags = [
        "--config.systems=cat_id2",
        "--config.rqvae.levels=2",
        "--config.rqvae.codebook_size=2",
    ]
    config = freeze(default_config())
    folder = data.parent / "work" / "cat_id2"
    other = relevant_values(config, ("rqvae", "loss_weights", "rqvae_training", "docids"))
    write_record(record_path(folder, "docids"), Record(other, "cat_id2"))
    for name in left:
        place = data.parent / "work" if name == "vocabulary.model" else folder
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    code = run(data, *flags, "--config.rqvae.category_levels=1", step="docids")
    # 8 documents and 4 IDs: free, it comes as far as that.
    expected = "its step docids, which was made with" if begun else "found 8 documents, expected at"
    refused(capsys, code, expected)


def test_a_refused_step_may_be_tried_with_another_configuration(data, capsys):
    spoil(data / "catalog.jsonl", 3, "nonsense")
    refused(capsys, run(data), "catalog.jsonl:3")
    assert run(data, "--config.data.on_error=skip") == 0


def test_input_that_has_changed_since(data, capsys):
    assert run(data) == 0
    capsys.readouterr()
    spoil(data / "queries.test.jsonl", 1, '{"id": "test0", "text": "another thing"}')
    refused(capsys, run(data), "step prepare, which was made with", "queries.test.jsonl")


def test_other_queries_are_retrieved_for_but_not_measured(data, capsys):
    path = data / "queries.test.jsonl"
    code = run(data, f"--config.retrieve.queries={path}", step="evaluate")
    refused(capsys, code, "config.retrieve.queries", "expected it to be empty")
    assert not (data.parent / "work").exists()


def called(*arguments):
    """(configuration, work directory) that a verb is run with."""
    seen = []
    cli.main(lambda *got: seen.extend(got), "", ["verb", *arguments])
    config, workdir = seen
    return config, str(workdir.root)


def exit_code(call, *arguments):
    with pytest.raises(SystemExit) as exit_:
        call(*arguments)
    return exit_.value.code


def test_a_configuration_by_name_or_by_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_name, place = called("--config=quickstart")
    assert place == "runs/quickstart"
    assert by_name.systems == ("cat_id2", "bm25")
    assert called(f"--config={CONFIG}") == (by_name, place)
    assert called("--config", str(CONFIG)) == (by_name, place)
    assert called("--config=quickstart.py", "--workdir", "there") == (by_name, "there")
    tiger, place = called("--config=quickstart:tiger")
    assert (tiger.systems, place) == (("tiger", "bm25"), "runs/quickstart-tiger")
    assert dataclasses.replace(tiger, systems=by_name.systems) == by_name
    assert called("--config=quickstart:a.b:C")[1] == "runs/quickstart-a.b-C"
    assert list(tmp_path.iterdir()) == []


def test_names_of_configurations_are_listed_where_one_is_wrong(capsys):
    code = exit_code(called, "--config=quickstat")
    refused(
        capsys, code, "--config: found 'quickstat', expected a file or one of paper/table2, quick"
    )


def test_a_configuration_file_for_a_system_that_there_is_not(data, capsys):
    code = run(data, config=f"{CONFIG}:nonsense")
    refused(
        capsys,
        code,
        "config.systems: found 'nonsense', expected some of cat_id2, cat_id2_literal, tiger, ",
    )


def test_no_configuration(capsys):
    refused(capsys, exit_code(called), "--config: found none, expected a file or a name, such as ")


def test_flags_may_come_in_any_order_and_the_last_of_two_holds():
    config, _ = called("--config.seed", "1", "--config=rqvae", "--config=quickstart")
    assert (config.seed, config.systems) == (1, ("cat_id2", "bm25"))
    config, _ = called("--config=rqvae", "--config.seed=1", "-config.seed=2")
    assert config.seed == 2
    config, _ = called("--noconfig.embedding.with_categories", "--config=rqvae")
    assert config.embedding.with_categories is False
    config, _ = called("--config.embedding.with_categories", "--config=rqvae", "--nodistributed")
    assert config.embedding.with_categories is True


def test_bad_input_of_a_configuration_file_is_said_as_it_says_it(tmp_path, capsys):
    path = tmp_path / "own.py"
    path.write_text(
        "from catid2_jax.errors import InputError\n\n\n"
        "def get_config():\n    raise InputError('a place', 'this', 'that')\n"
    )
    code = exit_code(called, f"--config={path}")
    refused(capsys, code, "error: a place: found this, expected that")
    path.write_text("def get_config():\n    raise ValueError('one\\n  two')\n")
    refused(capsys, exit_code(called, f"--config={path}"), f"{path}:2: found ValueError: one two")


def test_an_error_of_several_lines_becomes_one(capsys):
    def fail(config, workdir):
        raise InputError("a\nplace", "one\n\n   two", "three  four")

    code = exit_code(cli.main, fail, "", ["verb", "--config=rqvae"])
    refused(capsys, code, "error: a place: found one two, expected three  four")


def test_an_interrupt_has_its_exit_code(capsys):
    def interrupt(config, workdir):
        raise KeyboardInterrupt

    assert exit_code(cli.main, interrupt, "", ["verb", "--config=rqvae"]) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "interrupted; the same command goes on from here\n")


def test_other_errors_are_faults_and_keep_their_traceback():
    def fail(config, workdir):
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        cli.main(fail, "", ["verb", "--config=rqvae"])


def test_what_is_said_of_other_processes_names_the_flag(monkeypatch, capsys):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(VARIABLES[0], "localhost:1")
    code = exit_code(called, "--config=rqvae", "--distributed")
    refused(
        capsys,
        code,
        f"error: --distributed: found {VARIABLES[0]}=localhost:1, expected one of these or ",
    )


OTHERS = ("import_data", "convert_checkpoint", "report", "serve")
CONFIGURED = [verb for verb in cli.VERBS if verb not in OTHERS]


def as_module(verb, monkeypatch, *arguments):
    """`python -m catid2_jax.<verb>`, in this process."""
    monkeypatch.delitem(sys.modules, f"catid2_jax.{verb}", raising=False)
    monkeypatch.setattr(sys, "argv", [verb, *arguments])
    runpy.run_module(f"catid2_jax.{verb}", run_name="__main__")


def as_command(verb, monkeypatch, *arguments):
    """`catid2 <verb>`, in this process."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["catid2", verb, *arguments])
    cli.console()


@pytest.mark.parametrize("call", [as_module, as_command])
@pytest.mark.parametrize("verb", CONFIGURED)
def test_the_help_of_a_verb_lists_every_field(verb, call, monkeypatch, capsys):
    call(verb, monkeypatch, "--help")
    shown = capsys.readouterr().out
    assert shown.startswith(importlib.import_module(f"catid2_jax.{verb}").__doc__.strip())
    one_line = " ".join(shown.split())
    for path, value, text in described_fields():
        assert f"    --{path}={value!r}\n" in shown
        assert f"--{path}={' '.join(repr(value).split())} {text}" in one_line
    for flag, text in cli.FLAGS.items():
        assert f"    --{flag}\n" in shown
        assert f"--{flag} {text}" in one_line


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_has_the_values_of_the_configuration(flag, capsys):
    cli.main(None, "About.", ["verb", "--config=seq2seq:tiger", "--config.seed=7", flag])
    shown = capsys.readouterr().out
    assert "--config.seed=7\n" in shown
    assert "--config.systems=('tiger',)\n" in shown
    assert "--config.seq2seq_training.batch_size=128\n" in shown


@pytest.mark.parametrize("verb", OTHERS)
def test_the_help_of_the_other_verbs(verb, monkeypatch, capsys):
    assert exit_code(as_command, verb, monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: catid2 {verb} ")
    assert exit_code(as_module, verb, monkeypatch, "--help") == 0
    assert capsys.readouterr().out.startswith(f"usage: {verb} ")


@pytest.mark.parametrize(("verb", "found"), [("trian", "the verb 'trian'"), ("", "no verb")])
def test_a_verb_that_there_is_not(verb, found, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [*sys.path])
    code = exit_code(cli.console, ["catid2", *verb.split()])
    refused(capsys, code, f"error: catid2: found {found}, expected one of {', '.join(cli.VERBS)}")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_without_a_verb_lists_them(flag, monkeypatch, capsys):
    as_command(flag, monkeypatch)
    shown = capsys.readouterr().out
    for verb in cli.VERBS:
        assert verb in shown


def test_every_verb_is_a_module_with_a_main():
    for verb in cli.VERBS:
        module = importlib.import_module(f"catid2_jax.{verb}")
        assert module.main.__module__ == module.__name__


def test_an_own_plug_in_may_lie_in_the_working_directory(tmp_path, monkeypatch, capsys):
    (tmp_path / "shop_plugin.py").write_text(
        "from catid2_jax.resolution import System\n\nOurs = System('Ours', retriever='bm25')\n"
    )
    flags = ["--config=rqvae", "--config.systems=shop_plugin:Ours", "--workdir=work"]
    small = ["products=60", "train_queries=60", "dev_queries=0", "test_queries=10"]
    flags += [f"--config.data.synthetic.{field}" for field in small]
    monkeypatch.chdir(tmp_path)
    as_command("evaluate", monkeypatch, *flags)
    assert "Ours" in capsys.readouterr().out
    assert (tmp_path / "work" / "Ours" / "run.trec").exists()


def test_exit_code_of_the_real_command(data):
    shutil.rmtree(data)
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "catid2_jax.prepare",
            f"--config={CONFIG}",
            f"--config.data.catalog={data}/c.jsonl",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: config.data.train_queries: found '', expected a path")


def test_starts_without_tensorflow_and_before_jax():
    """Importing must not start JAX: several processes have to find each other before."""
    code = "import sys, catid2_jax.pipeline; assert 'tensorflow' not in sys.modules; "
    code += "import jax; jax.distributed.initialize('localhost:1', 1, 0)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
