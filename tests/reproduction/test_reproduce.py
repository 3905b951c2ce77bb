"""`catid2 reproduce` from a folder of data to the table, stopped in between."""

import csv
import pathlib

import numpy as np
import pytest

import catid2_jax
from catid2_jax import reproduce
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.data.synthetic import SyntheticConfig
from catid2_jax.data.synthetic_files import write_synthetic
from catid2_jax.errors import InputError
from catid2_jax.evaluation.recall import recall_per_query
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.reproduction import runs
from catid2_jax.steps import chain
from catid2_jax.workdir import read_record, record_path

ROOT = pathlib.Path(__file__).parent.parent
SYSTEMS = "tests.steps.own:SORTED,nearest_query,tests.steps.own:NARROW_DENSE"
NAMES = SYSTEMS.split(",")
SMALL = (
    f"--config={ROOT}/plugins/tiny.py",
    "--config.embedding.encoder=tests.steps.own:WordEncoder",
    "--config.seq2seq_training.epochs=2",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shop"
    sizes = SyntheticConfig(products=60, train_queries=120, dev_queries=0, test_queries=20)
    write_synthetic(sizes, folder, seed=0)
    return folder


def call(data, output, *words, systems=SYSTEMS):
    flags = (f"--data={data}", f"--output={output}", f"--systems={systems}")
    reproduce.main(["reproduce", "table2", *flags, *SMALL, *words])


def figures(output):
    with open(output / "table2.csv", encoding="utf-8") as file:
        return {(line["system"], line["measure"]): line for line in csv.DictReader(file)}


def recall(shop, folder):
    """Recall@10 of each query, in %."""
    run = read_run(shop / folder / "run.trec")
    ranking = {query: [product for product, _ in hits] for query, hits in run.items()}
    rows = recall_per_query(ranking, read_qrels(shop / "data/qrels.test.txt"), (10,))
    return [100 * row["recall@10"] for row in rows.values()]


@pytest.fixture(scope="module")
def stopped(data, tmp_path_factory):
    """A run of two seeds that ended within the second, and what its table said then."""
    output, real, calls = tmp_path_factory.mktemp("output"), chain.run_until, []

    def run_until(config, workdir, last):
        calls.append(config.systems)
        real(config, workdir, last if len(calls) == 1 else "docids")
        if len(calls) == 2:
            raise InputError("the second seed", "the end", "more")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "run_until", run_until)
        with pytest.raises(SystemExit) as end:
            call(data, output, "--seeds=2")
    assert end.value.code == 2
    assert calls == [tuple(NAMES), (f"{NAMES[0]}@1",)]
    return output, (output / "table2.md").read_text("utf-8"), figures(output)


def test_what_is_done_is_written_after_each_seed(stopped):
    output, text, lines = stopped
    assert text.count("(seeds so far: sorted 1 of 2)") == 2
    assert {line["seeds"] for line in lines.values()} == {"1"}
    assert (output / "shop/SORTED@1/steps/docids.json").exists()
    assert not (output / "shop/SORTED@1/run.trec").exists()


@pytest.fixture(scope="module")
def finished(stopped, data):
    """The same command again, and when the first seed's steps were done."""
    shop = stopped[0] / "shop"
    places = [shop, shop / "SORTED", shop / "nearest_query", shop / "NARROW_DENSE"]
    paths = [p for place in places for p in sorted((place / "steps").glob("*.json"))]
    before = {path: path.read_text() for path in paths}
    call(data, stopped[0], "--seeds=2")
    return shop, before


def test_a_run_that_was_stopped_is_not_counted_twice(finished):
    shop, before = finished
    assert {path: path.read_text() for path in before} == before
    lines = figures(shop.parent)
    for name, folders in {
        NAMES[0]: ("SORTED", "SORTED@1"),
        NAMES[1]: ("nearest_query",),
        NAMES[2]: ("NARROW_DENSE",),
    }.items():
        line = lines[name, "recall@10"]
        means = [np.mean(recall(shop, folder)) for folder in folders]
        assert float(line["mean"]) == pytest.approx(np.mean(means))
        assert int(line["seeds"]) == len(folders)
        seconds = [read_record(record_path(shop / f, "retrieve")).seconds for f in folders]
        assert float(lines[name, "seconds/retrieve"]["mean"]) == pytest.approx(np.mean(seconds))
        assert float(lines[name, "bytes/retrieve"]["mean"]) > 1e7
    first, second = (recall(shop, folder) for folder in ("SORTED", "SORTED@1"))
    assert first != second
    assert "seeds so far" not in (shop.parent / "table2.md").read_text("utf-8")
    assert r"\toprule" in (shop.parent / "table2.tex").read_text("utf-8")


def test_data_and_embeddings_are_made_once(finished):
    shop, _ = finished
    found = {path.relative_to(shop).as_posix() for path in shop.rglob("embeddings.npy")}
    assert found == {"embeddings.npy", "NARROW_DENSE/embeddings.npy"}
    assert {p.parent.name for p in shop.rglob("catalog.parquet")} == {"data"}
    assert len(list(shop.rglob("vocabulary.model"))) == 1


def test_a_seed_is_loaded_by_its_name(finished):
    shop, _ = finished
    query = read_queries(shop / "data/queries.test.jsonl")[0]
    expected = read_run(shop / "SORTED@1/run.trec")[query.id]
    hits = catid2_jax.load(shop, "SORTED@1").search(query.text, k=5)
    assert [hit.product.id for hit in hits] == [product for product, _ in expected[:5]]


def refused(capsys, end):
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "systems", "expected"),
    [
        ((), "bm25,lightgcn", "error: config.systems: found 'lightgcn', expected some of cat_id2"),
        (("--seeds=0",), "bm25", "error: --seeds: found '0', expected an integer of at least 1"),
        (
            ("--config.retrieve.k=4",),
            "bm25",
            "error: config.retrieve.k: found 4, expected at",
        ),
        (("--vectors=minilm",), "bm25", "found no catalog.minilm.npy, expected"),
        (("--config.rqvae.codes=4",), "bm25", "error: config.rqvae.codes: found no such field"),
        (("--seed=4",), "bm25", "error: command line: found the flag --seed, expected"),
        ((), "bm25,bm25", "error: --systems: found bm25,bm25, expected each system once"),
    ],
)
def test_bad_input_is_one_line_and_nothing_runs(data, tmp_path, capsys, words, systems, expected):
    with pytest.raises(SystemExit) as end:
        call(data, tmp_path / "out", *words, systems=systems)
    assert expected in refused(capsys, end)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("table9",), "error: reproduce: found 'table9', expected one of table2, table3,"),
        ((), "error: reproduce: found no table, expected one of table2"),
        (("table2", "--seeds"), "error: --seeds: found expected one argument, expected a value"),
        (("table2", "--vectors=x"), "error: --vectors: found 'x', expected it with --data=DIR"),
    ],
)
def test_words_that_ask_for_nothing(capsys, words, expected):
    with pytest.raises(SystemExit) as end:
        reproduce.main(["reproduce", *words])
    assert refused(capsys, end).startswith(expected)


def test_an_empty_split_and_a_missing_folder(data, tmp_path, capsys):
    shop = tmp_path / "shop"
    shop.mkdir()
    for path in data.iterdir():
        (shop / path.name).write_text(path.read_text("utf-8") if "test" not in path.name else "")
    for folder, expected in ((shop, "queries.test.jsonl"), (tmp_path / "none", "no catalog.jsonl")):
        with pytest.raises(SystemExit) as end:
            call(folder, tmp_path / "out", systems="bm25")
        assert expected in refused(capsys, end)
        assert not list(tmp_path.glob("out/*/*/run.trec"))
        assert not list(tmp_path.glob("out/table2.*"))


def test_a_package_that_is_not_installed_is_named(data, tmp_path, capsys, monkeypatch):
    real = chain.importlib.util.find_spec
    monkeypatch.setattr(
        chain.importlib.util, "find_spec", lambda name: None if "sentence" in name else real(name)
    )
    with pytest.raises(SystemExit) as end:
        call(data, tmp_path / "out", systems="bm25,mpnet")
    assert refused(capsys, end) == (
        "error: config.systems: found 'mpnet' without the package sentence_transformers, expected "
        "it: pip install 'catid2_jax[embed]'"
    )
    assert not list(tmp_path.rglob("run.trec"))
