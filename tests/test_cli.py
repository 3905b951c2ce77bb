"""Bad input of every kind: one clear line, exit code 2, nothing half-written."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from catid2_jax import cli
from catid2_jax.config import default_config, freeze
from catid2_jax.steps.workdir import Workdir, relevant_config, write_record

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
        cli.main(lambda config: step, argv)
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
    assert not (data.parent / "work" / "data" / "catalog.jsonl").exists()


def test_bad_products_are_set_aside_and_counted_when_asked(data, capsys):
    spoil(data / "catalog.jsonl", 3, "nonsense")
    spoil(data / "catalog.jsonl", 6, '{"id": "p5", "title": ""}')
    assert run(data, "--config.data.on_error=skip") == 0
    work = data.parent / "work"
    assert "2 bad lines set aside" in capsys.readouterr().out
    rejected = [json.loads(s) for s in (work / "data/rejected.jsonl").read_text().splitlines()]
    assert [r["line"] for r in rejected] == [3, 6]
    ids = (work / "embeddings.ids.txt").read_text().split()
    assert ids == ["p0", "p1", "p3", "p4", "p6", "p7"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [("train2 0 nobody 3", "document 'nobody'"), ("nobody 0 p2 3", "query 'nobody'")],
)
def test_qrels_of_what_does_not_exist(data, capsys, line, expected):
    spoil(data / "qrels.train.txt", 3, line)
    refused(capsys, run(data), f"{data / 'qrels.train.txt'}:3: found {expected}")


@pytest.mark.parametrize("split", ["train", "test"])
def test_qrels_without_positives(data, capsys, split):
    lines = [f"{split}{i} 0 p{i} {i % 2}" for i in range(8)]
    write_lines(data / f"qrels.{split}.txt", lines)
    refused(
        capsys,
        run(data),
        f"{data / f'queries.{split}.jsonl'}: found no query with a relevant document",
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


DOCIDS = {
    "other L": ([0, 0, 0], "found 3 levels and codes up to 7, expected rqvae.levels = 4"),
    "other K": ([256, 0, 0, 0], "codes up to 256, expected rqvae.levels = 4 and codes below"),
    "beyond integers": ([2**40, 0, 0, 0], ":1: found codes [1099511627776, 0, 0, 0], expected"),
    "negative": ([-1, 0, 0, 0], ":1: found codes [-1, 0, 0, 0], expected integers of 0"),
}


@pytest.mark.parametrize("case", DOCIDS)
def test_ids_outside_of_the_models(data, capsys, case):
    first, expected = DOCIDS[case]
    rows = [first, *([i, *first[1:]] for i in range(1, 8))]
    path = data / "docids.jsonl"
    write_lines(path, [json.dumps({"id": f"p{i}", "codes": row}) for i, row in enumerate(rows)])
    code = run(data, f"--config.docids.path={path}", step="assign")
    refused(capsys, code, str(path), expected)
    assert not (data.parent / "work" / "docids.jsonl").exists()


def test_vocabulary_that_is_not_the_trained_models(data, capsys):
    """By name and by contents, before anything else is done."""
    path = data / "one.model"
    path.write_bytes(b"one")
    given = freeze(default_config())
    section = dataclasses.replace(given.seq2seq, vocabulary=str(path))
    trained = dataclasses.replace(given, seq2seq=section)
    names = ("rqvae", "seq2seq", "t5", "seq2seq_training")
    record = Workdir(data.parent / "work").record("train_seq2seq")
    write_record(record, relevant_config(trained, names), 1.0)
    config = data / "config.py"
    config.write_text("from catid2_jax.config import default_config as get_config\n")

    def refused_with(vocabulary, *expected):
        argument = f"--config.seq2seq.vocabulary={vocabulary}"
        code = run(data, argument, step="retrieve", config=config)
        refused(capsys, code, "step train_seq2seq was made with", *expected)
        assert not (data.parent / "work" / "data").exists()

    refused_with("", f"config.contents of files.{path} = ", "and now None")
    path.write_bytes(b"another")
    refused_with(path, f"config.contents of files.{path} = ", "and now '")


def test_no_pair_has_a_weight(data, capsys):
    write_lines(data / "qrels.train.txt", [f"train{i} 0 p{i} 2" for i in range(8)])
    weights = [f"--config.seq2seq.{name}_weight=0" for name in ("title", "substitute")]
    rows = [json.dumps({"id": f"p{i}", "codes": [i, 0, 0, 0]}) for i in range(8)]
    write_lines(data / "docids.jsonl", rows)
    given = f"--config.docids.path={data / 'docids.jsonl'}"
    refused(
        capsys,
        run(data, given, *weights, step="train_seq2seq"),
        "qrels.train.txt: found no pair with a weight, expected some",
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


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--config.rqvae.levelz=3", 'levelz\' Did you mean "levels" instead of "levelz"?'),
        ("--config.nothing=3", "nothing"),
        ("--config.rqvae.levels=many", "many"),
        ("--config.rqvae.category_levels=4", "category_levels is 4 and levels is 4"),
        ("--config.rqvae.codebook_size=0", "config.rqvae.codebook_size is 0: expected at least 1"),
        (
            "--config.embedding.encoder=bert",
            "'bert': expected one of 'lsa', 't5', 'sentence_transformers', ",
        ),
        ("--config.retrieve.k=101", "k is 101: expected 1 to beams = 100"),
        ("--config.retrieve.beams=0", "beams is 0"),
        ("--config.evaluate.baselines=('dpr',)", "'dpr': expected 'bm25', 'tiger' or both"),
        ("--config.data.test_queries=", "test_queries is empty"),
        ("--config.data.dev_queries=x.jsonl", "dev_queries and dev_qrels"),
        ("--nonsense=1", "nonsense"),
        ("stray", "found argument 'stray'"),
    ],
)
def test_bad_command_lines(data, capsys, argument, expected):
    refused(capsys, run(data, argument), expected)
    assert not (data.parent / "work").exists()


def test_more_documents_than_ids(data, capsys):
    # 8 documents, K^L = 2^2 = 4.
    code = run(
        data,
        "--config.rqvae.levels=2",
        "--config.rqvae.codebook_size=2",
        "--config.rqvae.category_levels=1",
        step="train_rqvae",
    )
    refused(capsys, code, "found 8 documents, expected at most K^L = 2^2 = 4")
    assert not (data.parent / "work" / "rqvae").exists()  # it is said before the training


def test_work_directory_of_another_configuration(data, capsys):
    assert run(data) == 0
    before = (data.parent / "work" / "embeddings.npy").read_bytes()
    capsys.readouterr()
    refused(
        capsys,
        run(data, "--config.embedding.dim=3"),
        "step embed was made with config.embedding.dim = 256, and now 3",
    )
    refused(capsys, run(data, "--config.seed=1"), "config.seed = 0, and now 1")
    assert (data.parent / "work" / "embeddings.npy").read_bytes() == before


def test_a_refused_step_may_be_tried_with_another_configuration(data, capsys):
    spoil(data / "catalog.jsonl", 3, "nonsense")
    refused(capsys, run(data), "catalog.jsonl:3")
    assert run(data, "--config.data.on_error=skip") == 0


def test_input_that_has_changed_since(data, capsys):
    assert run(data) == 0
    capsys.readouterr()
    spoil(data / "queries.test.jsonl", 1, '{"id": "test0", "text": "another thing"}')
    refused(capsys, run(data), "step prepare was made with", "queries.test.jsonl")


def test_other_queries_are_retrieved_for_but_not_measured(data, capsys):
    path = data / "queries.test.jsonl"
    code = run(data, f"--config.retrieve.queries={path}", step="evaluate")
    refused(capsys, code, "config.retrieve.queries", "expected it to be empty")
    assert not (data.parent / "work").exists()


def test_configuration_file_that_is_missing_or_has_no_such_preset(capsys):
    for name in ("missing.py", str(CONFIG) + ":nonsense"):
        with pytest.raises(SystemExit) as exit_:
            cli.main(lambda config: "prepare", ["verb", f"--config={name}"])
        refused(capsys, exit_.value.code, name.split(":")[-1])


def test_no_configuration(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(lambda config: "prepare", ["verb"])
    refused(capsys, exit_.value.code, "--config is missing, expected a file such as")


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
    assert result.stderr.startswith("error: config.data.train_queries is empty")


def test_starts_without_tensorflow_and_before_jax():
    """Importing must not start JAX: several processes have to find each other before."""
    code = "import sys, catid2_jax.pipeline; assert 'tensorflow' not in sys.modules; "
    code += "import jax; jax.distributed.initialize('localhost:1', 1, 0)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
