"""What README.md and the pages show beside commands of the package: shells, JSON, the tutorial."""

import csv
import importlib.util
import json
import pathlib
import re
import runpy
import shlex

import numpy as np
import pytest

import catid2_jax
from catid2_jax import cli
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.retrievers.bm25 import BM25Retriever

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "BENCHMARKS.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TUTORIAL = ROOT / "docs" / "tutorial.md"


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)


def shell_lines():
    """(page, line) of each line of the pages' scripts, those that go on joined."""
    for page in PAGES:
        for text in blocks(page, "bash"):
            for line in text.replace("\\\n", " ").splitlines():
                yield page.name, line


def test_scripts_exist_and_have_the_flags():
    """In scripts and in the text."""
    found = 0
    for page in PAGES:
        text = re.sub(r"\\\n|\n(?=[^`\n]*`)", " ", page.read_text("utf-8"))
        for script, rest in re.findall(
            r"python3? ((?:benchmarks|website|tests)/\S+?\.py)([^`\n]*)", text
        ):
            source = (ROOT / script).read_text("utf-8")
            for flag in re.findall(r" --([a-z_0-9]+)", rest):
                assert flag in source or flag == "help", f"{page.name}: {script} --{flag}"
                found += 1
    assert found > 15


def test_modules_that_are_run_exist():
    names = {
        name
        for _, line in shell_lines()
        for name in re.findall(r"-m ((?:tests|website)\.\w+)", line)
    }
    assert "tests.faults" in names
    for name in names:
        assert importlib.util.find_spec(name), name


def test_extras_that_are_installed_exist():
    text = (ROOT / "setup.py").read_text("utf-8").partition("extras_require")[2]
    declared = set(re.findall(r'^ {8}"(\w+)": ', text, re.M))
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    named = set(re.findall(r"pip install[^`\n]*?\[([\w,]+)\]'", text))
    assert {"serve", "data,inspect,serve"} <= named
    assert {extra for names in named for extra in names.split(",")} <= declared


def test_make_targets_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    named = {
        name for page in PAGES for name in re.findall(r"`make (\w+)`", page.read_text("utf-8"))
    }
    assert "docs" in named
    assert named <= targets


def test_json_is_valid():
    texts = [text for page in PAGES for text in blocks(page, "json")]
    assert len(texts) > 2
    for text in texts:
        json.loads(text)


def test_the_client_of_the_page():
    (text,) = (t for t in blocks(ROOT / "docs" / "serving.md", "python") if "Client(" in t)
    names = {}
    exec(compile(text, "serving.md", "exec"), names)
    assert issubclass(names["ServiceError"], Exception)
    with pytest.raises(OSError, match="refused"):
        names["Client"]("http://127.0.0.1:9", timeout=1).call("GET", "/ready")


def commands(verb):
    """The tutorial's commands of a verb, as lists of words."""
    lines = "\n".join(blocks(TUTORIAL, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith(f"catid2 {verb}")]


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with the tutorial's modules, its shop, and the shop imported as it says."""
    monkeypatch.chdir(tmp_path)
    for text in blocks(TUTORIAL, "python"):
        name = re.match(r"# (\w+\.py)", text)
        (tmp_path / (name[1] if name else "search.py")).write_text(text, "utf-8")
    runpy.run_path("make_shop.py")
    (command,) = commands("import_data")
    cli.console(command)
    return tmp_path


def test_the_shop_of_the_tutorial(shop):
    """Its excerpts are the files' lines, and what is imported and prepared is what was judged."""
    shown = [text.splitlines() for text in blocks(TUTORIAL, "text")]
    for name in ("shop.csv", "judged.csv"):
        assert (shop / name).read_text("utf-8").splitlines()[:2] in shown
    (record,) = map(json.loads, blocks(TUTORIAL, "json"))
    cli.console(["catid2", "prepare", "--config=my_shop.py"])
    data = shop / "runs" / "my_shop" / "data"
    catalog = catid2_jax.read_catalog(data / "catalog.parquet")
    first = catalog[0]
    assert record == {"id": first.id, "title": first.title, "categories": [*first.categories]}
    with (shop / "judged.csv").open(newline="") as file:
        exact = {row["query_id"] for row in csv.DictReader(file) if row["label"] == "E"}
    queries = {split: read_queries(data / f"queries.{split}.jsonl") for split in ("train", "test")}
    assert {query.id for split in queries.values() for query in split} == exact
    recall = recall_of_bm25(catalog, queries["test"], read_qrels(data / "qrels.test.txt"))
    row = re.search(r"BM25 +│ +([\d.]+)", TUTORIAL.read_text("utf-8"))
    assert 100 * recall == pytest.approx(float(row[1]), abs=0.05)


def recall_of_bm25(catalog, queries, qrels):
    """Recall@5, counted here."""
    ranking = BM25Retriever(catid2_jax.Corpus(catalog)).search([q.text for q in queries], 5)
    recalls = []
    for query, rows in zip(queries, np.asarray(ranking.documents), strict=True):
        relevant = {product for product, grade in qrels[query.id].items() if grade == 3}
        recalls.append(len(relevant & {catalog.ids[row] for row in rows}) / len(relevant))
    return np.mean(recalls)


def test_the_python_of_the_first_pages(shop, monkeypatch, capsys):
    """README's and the tutorial's, with BM25 in the place of a trained network, and random IDs."""
    catalog = catid2_jax.read_catalog("shop/catalog.parquet")
    bm25 = BM25Retriever(catid2_jax.Corpus(catalog))
    loaded = catid2_jax.ProductRetriever("bm25", catalog, bm25)
    monkeypatch.setattr(catid2_jax, "load", {"runs/quickstart": loaded, "runs/my_shop": loaded}.get)
    read, learn = catid2_jax.read_catalog, catid2_jax.learn_docids
    files = {"catalog.jsonl": "shop/catalog.parquet"}
    monkeypatch.setattr(catid2_jax, "read_catalog", lambda path: read(files[path]))
    monkeypatch.setattr(
        catid2_jax,
        "learn_docids",
        lambda c, e, scheme, **settings: learn(c, e, "random", **settings),
    )
    np.save("embeddings.npy", np.eye(448, dtype=np.float32))
    names = {}
    (readme,) = blocks(ROOT / "README.md", "python")
    exec(compile(readme, "README.md", "exec"), names)
    assert names["docids"].codes.shape == (448, 4)
    assert names["docids"].codebook_size == 256
    assert names["retriever"] is loaded
    capsys.readouterr()
    exec(compile((shop / "search.py").read_text(), "search.py", "exec"), names)
    assert len(re.findall(r"^ +[\d.]+ .* red$", capsys.readouterr().out, re.M)) == 5


@pytest.mark.slow
def test_the_tutorial_as_written(shop, capsys):
    for verb in ("inspect", "pipeline"):
        (command,) = commands(verb)
        cli.console(command)
    metrics = json.loads(pathlib.Path("runs/my_shop/metrics.json").read_text())
    assert metrics["cat_id2/recall@10"] > metrics["bm25/recall@10"] > 0.8
    capsys.readouterr()
    runpy.run_path("search.py")
    first = capsys.readouterr().out.splitlines()[0]
    assert "frying pan" in first
