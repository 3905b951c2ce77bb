"""The command: what it reads, what it leaves, how it refuses."""

import builtins
import json
import pathlib
import subprocess
import sys

import pytest

from catid2_jax import inspect

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "quickstart.py"


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "shop"
    directory.mkdir()
    products = [
        {"id": f"p{i}", "title": f"Thing {i}", "categories": ["A", f"B{i % 2}", f"C{i % 4}"]}
        for i in range(8)
    ]
    (directory / "catalog.jsonl").write_text("".join(json.dumps(p) + "\n" for p in products))
    for split in ("train", "test"):
        queries = [json.dumps({"id": f"{split}{i}", "text": f"{split} {i}"}) for i in range(8)]
        (directory / f"queries.{split}.jsonl").write_text("\n".join(queries))
        qrels = "".join(f"{split}{i} 0 p{i} 3\n" for i in range(8))
        (directory / f"qrels.{split}.txt").write_text(qrels)
    return directory


def run(data, *arguments):
    """The exit code of the command on `data`."""
    paths = [f"--config.data.catalog={data / 'catalog.jsonl'}"]
    for split in ("train", "test"):
        paths.append(f"--config.data.{split}_queries={data / f'queries.{split}.jsonl'}")
        paths.append(f"--config.data.{split}_qrels={data / f'qrels.{split}.txt'}")
    argv = ["inspect", f"--config={CONFIG}", f"--workdir={data.parent / 'work'}"]
    try:
        inspect.main([*argv, *paths, *arguments])
    except SystemExit as error:
        return error.code
    return 0


def left(data):
    return json.loads((data.parent / "work" / "inspect.json").read_text(encoding="utf-8"))


def test_figures_of_the_configured_files(data, capsys):
    assert run(data) == 0
    figures = left(data)
    assert figures["catalog"]["products"] == 8
    assert list(figures["splits"]) == ["train", "test"]
    assert figures["splits"]["test"]["judgements"] == 8
    page = (data.parent / "work" / "inspect.html").read_text(encoding="utf-8")
    assert "<title>Health of shop</title>" in page
    out = capsys.readouterr().out
    assert "findings" in out
    assert f"everything is in {data.parent / 'work'}" in out


def test_data_are_read_before_preprocessing(data):
    with open(data / "catalog.jsonl", "a") as file:
        file.write('{"id": "flat", "title": "Flat thing", "categories": ["A"]}\n')
    with open(data / "qrels.test.txt", "a") as file:
        file.write("test0 0 flat 0\n")
    assert run(data) == 0
    figures = left(data)
    assert figures["catalog"]["depths"]["1"]["count"] == 1
    assert figures["splits"]["test"]["grades"]["I"] == 1


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_bad_records_are_a_finding_and_do_not_stop_the_others(data, on_error):
    with open(data / "catalog.jsonl", "a") as file:
        file.write('nonsense\n{"id": "x", "title": " ", "categories": ["A"]}\n{}\n')
    assert run(data, f"--config.data.on_error={on_error}") == 0
    figures = left(data)
    assert (figures["rejected"]["count"], figures["catalog"]["products"]) == (3, 8)
    assert figures["findings"][0]["severity"] == "error"
    assert "catalog.jsonl:9: found invalid JSON" in figures["rejected"]["examples"][0]
    rejected = (data.parent / "work" / "inspect.rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in rejected] == [9, 10, 11]


def test_judgements_that_prepare_would_refuse_are_findings(data):
    with open(data / "qrels.train.txt", "a") as file:
        file.write("train0 0 nobody 3\nnobody 0 p0 3\n")
    assert run(data) == 0
    train = left(data)["splits"]["train"]
    assert (train["unknown_documents"]["count"], train["unknown_queries"]["count"]) == (1, 1)


def test_no_preprocessing_step_is_run(data):
    assert run(data) == 0
    names = {path.name for path in (data.parent / "work").iterdir()}
    assert names == {"inspect.json", "inspect.html", "inspect.rejected.jsonl"}


def test_the_synthetic_catalogue(tmp_path, capsys):
    small = ("products=300", "train_queries=200", "dev_queries=0", "test_queries=50")
    flags = [f"--config.data.synthetic.{field}" for field in small]
    inspect.main(["inspect", f"--config={CONFIG}", f"--workdir={tmp_path}", *flags])
    figures = json.loads((tmp_path / "inspect.json").read_text(encoding="utf-8"))
    assert figures["catalog"]["products"] == 300
    assert {n: s["queries"] for n, s in figures["splits"].items()} == {"train": 200, "test": 50}
    assert [f["what"] for f in figures["findings"] if f["severity"] == "error"] == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "queries.test.jsonl",
            '{"id": "a b", "text": "x"}',
            "queries.test.jsonl:1: found id 'a b'",
        ),
        ("qrels.test.txt", "test0 0 p0 9\n", "qrels.test.txt:1: found grade '9'"),
        ("catalog.jsonl", "nonsense", "found no product (1 records rejected)"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(data, capsys, name, text, expected):
    (data / name).write_text(text)
    assert run(data) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert expected in lines[0]
    assert not (data.parent / "work" / "inspect.json").exists()


def test_a_missing_package_is_named(data, capsys, monkeypatch):
    def refuse(name, *arguments, **options):
        if name.startswith("catid2_jax.data.health"):
            raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")
        return real(name, *arguments, **options)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert run(data) == 2
    assert "found no package jinja2" in capsys.readouterr().err


def test_exit_code_and_message_of_the_real_command(tmp_path):
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "catid2_jax.inspect",
            f"--config={CONFIG}",
            f"--workdir={tmp_path}",
            "--config.data.synthetic.products=0",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: config.data.synthetic.")
    assert len(result.stderr.splitlines()) == 1
