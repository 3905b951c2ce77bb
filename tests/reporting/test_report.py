"""The command: the page and the files that it leaves, and what it refuses."""

import builtins
import html
import io
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree

import numpy as np
import PIL.Image
import plotly.graph_objects as go
import pytest

from catid2_jax import report
from catid2_jax.errors import InputError
from catid2_jax.files import read_sealed, write_sealed
from catid2_jax.reporting import writing
from catid2_jax.reporting.comparison import compare
from catid2_jax.reporting.config import ReportConfig
from catid2_jax.reporting.interactive import describe
from catid2_jax.reporting.page import Bars, Flow, Lines, Points, WordCloud
from catid2_jax.reporting.static import draw
from catid2_jax.reporting.text import plain
from catid2_jax.workdir import check_names
from tests.reporting.conftest import HOSTILE
from tests.reporting.workdirs import QRELS, QUERIES, RUNS, make

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def run(*arguments):
    """The exit code of the command."""
    try:
        report.main(["catid2 report", *map(str, arguments)])
    except SystemExit as error:
        return error.code
    return 0


def refused(capsys, code, *expected):
    """One line on standard error that holds `expected`, exit code 2."""
    lines = capsys.readouterr().err.splitlines()
    assert (code, len(lines)) == (2, 1), lines
    for text in expected:
        assert text in lines[0]


def page_of(folder):
    return (folder / "report" / "index.html").read_text("utf-8")


@pytest.fixture
def work(tmp_path):
    """A work directory of our own."""
    return make(tmp_path / "work", systems=("cat_id2", "bm25"))


SECTIONS = (
    *("Retrieval", "Configuration and data", "Time and memory", "Learning curves"),
    *("Document IDs", "Leakage", "Recall by kind of query", "Queries won and lost"),
    *("Calibration of scores", "Proven results", "From categories to codes (Figure 3)"),
    *("Products as the encoder sees them (Figure 4)", "Sweeps (Figure 5)"),
    *("Words under a prefix (Figure 6)", "IDs of one category (Table 8)"),
    "Tree of document IDs",
)


def test_the_page_has_every_section(reported):
    page = page_of(reported / "shop")
    assert tuple(re.findall(r'<h2 id="section-\d+">(.*?)</h2>', page)) == SECTIONS
    assert page.rstrip().endswith("</html>")


def test_every_chart_is_a_file_of_both_forms(reported):
    page, folder = page_of(reported / "shop"), reported / "shop" / "report"
    linked = set(re.findall(r'href="([^"#]+\.(?:png|svg))"', page))
    assert linked == {path.name for path in folder.iterdir()} - {"index.html"}
    assert {"recall.png", "figure3-0.svg", "figure4-0.png", "figure5-alpha.png"} <= linked
    for name in sorted(linked):
        if name.endswith(".svg"):
            ElementTree.parse(folder / name)
        else:
            with PIL.Image.open(folder / name) as image:
                assert len(set(image.convert("L").resize((60, 40)).tobytes())) > 5, name


def test_the_page_asks_for_nothing(reported):
    """No file and no address but links to the charts."""
    page = page_of(reported / "shop").partition("<script>/**")[0]
    assert re.findall(r'(?:src|href)="(?!data:|#|[\w.-]+\.(?:png|svg)")', page) == []
    assert "default-src 'none'" in page


def test_hostile_titles_are_text(reported):
    page = page_of(reported / "shop").partition("<script>/**")[0]
    assert "<img src=x" not in page
    assert "<b>" not in page
    assert html.escape(HOSTILE[0], quote=False).replace("'", "&#39;").replace('"', "&#34;") in page
    assert "{{ 7 * 7 }}" in page
    assert "x" * 301 not in page
    assert "\u202e" not in page
    assert "👩‍👩‍👧‍👦 🇯🇵 🦄 \\x00\\x0b\\x1b[31m" in page


@pytest.fixture
def undrawn(monkeypatch):
    """Charts are not drawn, which takes most of the time."""
    monkeypatch.setattr(writing, "draw", lambda chart: {"png": b"", "svg": b""})


def test_the_same_work_gives_the_same_page(work, undrawn):
    pages = []
    for _ in range(2):
        assert run(f"--workdir={work}") == 0
        (work / "report" / "old.png").touch()
        pages.append(page_of(work))
    assert pages[0] == pages[1]
    assert run(f"--workdir={work}", "--seed=1") == 0
    assert page_of(work) != pages[0]
    assert not (work / "report" / "old.png").exists()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_in_a_browser(reported):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 420, "height": 900})
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.goto((reported / "shop" / "report" / "index.html").as_uri())
        page.wait_for_selector("[data-chart=drawn] .main-svg", timeout=60_000)
        assert page.title() == "Report of shop and other"
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        # All at once, as for a printer.
        page.evaluate("places.forEach(drawn)")
        page.wait_for_function("places.every((place) => place.querySelector('.main-svg'))")
        words = page.evaluate("document.querySelector('[data-chart]').textContent")
        assert "CAT-ID2, shop" in words
        first = page.locator(".tree details").first
        first.locator("summary").first.click()
        assert first.locator("li").first.is_visible()
        assert page.locator("img").evaluate_all("all => all.every(i => i.naturalWidth > 100)")
        assert wrong == []
        assert len([url for url in asked if not url.startswith("data:")]) == 1
        browser.close()


@pytest.mark.parametrize("where", ["empty", "missing"])
def test_a_folder_that_is_no_work_directory(tmp_path, capsys, where):
    if where == "empty":
        (tmp_path / where).mkdir()
    refused(capsys, run(f"--workdir={tmp_path / where}"), where, "expected a work directory")
    assert not (tmp_path / "missing").exists()


def change_record(path, **changes):
    write_sealed(path, read_sealed(path) | changes)


def test_no_finished_step(work, capsys):
    change_record(work / "steps" / "prepare.json", done=False)
    refused(capsys, run(f"--workdir={work}"), "found no finished step prepare")
    assert not (work / "report").exists()


def test_another_version(work, capsys):
    change_record(work / "cat_id2" / "steps" / "docids.json", format=2)
    refused(capsys, run(f"--workdir={work}"), "docids.json", "format 2, made by another version")


def test_a_run_without_a_judged_query(work, capsys):
    (work / "bm25" / "run.trec").write_text("other Q0 p1 1 0.5 bm25\n")
    refused(capsys, run(f"--workdir={work}"), "run.trec", "rankings of 1 queries, none of which")


def test_judgements_without_a_relevant_product(work, capsys):
    (work / "data" / "qrels.test.txt").write_text("q0 0 p1 0\n")
    refused(capsys, run(f"--workdir={work}"), "qrels.test.txt", "no query with a relevant product")


@pytest.mark.parametrize(
    ("texts", "grades", "expected"),
    [
        ({"q1": "another rug"}, {}, "1 test queries with other texts"),
        ({}, {"q1": {"p6": 3, "p9": 2}}, "1 test queries with other relevant products"),
        ({"q9": "more"}, {}, "'q9', which only one of them has"),
        ({}, {"q1": {"p6": 3, "p9": 0}}, ""),
    ],
)
def test_other_test_queries_are_refused(work, tmp_path, texts, grades, expected):
    queries = QUERIES | {"test": QUERIES["test"] | texts}
    qrels = QRELS | {"test": QRELS["test"] | grades}
    other = make(tmp_path / "other", systems=("bm25",), queries=queries, qrels=qrels, runs=RUNS)
    if not expected:
        assert len(compare([work, other], ReportConfig()).directories) == 2
        return
    with pytest.raises(InputError, match=re.escape(expected)) as error:
        compare([work, other], ReportConfig())
    assert error.value.where == str(other)


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--documents=0", "--documents: found 0"),
        ("--documents=many", "command line: found argument --documents"),
        ("--systems=cat_id2,none", "--systems: found 'none', expected some with IDs: cat_id2"),
        ("--category=Home > Sofas", "--category: found 'Home > Sofas'"),
        ("--categories=Sofas", "--categories: found Sofas"),
        ("--prefix=a", "--prefix: found document ID 'a'"),
    ],
)
def test_wrong_flags(work, capsys, flag, expected):
    refused(capsys, run(f"--workdir={work}", flag), expected)
    assert not (work / "report").exists()


def test_no_system_takes_the_place_of_the_report():
    with pytest.raises(InputError, match="'report'"):
        check_names("report", "run.trec")


def test_data_alone_are_a_whole_page(work, undrawn):
    for system in ("cat_id2", "bm25"):
        shutil.rmtree(work / system)
    assert run(f"--workdir={work}") == 0
    page = page_of(work)
    assert "No system has ranked products" in page
    assert "No system here has document IDs" in page


def test_a_missing_package_is_named(work, capsys, monkeypatch):
    def refuse(name, *arguments, **options):
        if name.startswith("catid2_jax.reporting."):
            raise ModuleNotFoundError("No module named 'wordcloud'", name="wordcloud")
        return real(name, *arguments, **options)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    refused(capsys, run(f"--workdir={work}"), "found no package wordcloud", "catid2_jax[report]")


CHARTS = (
    Lines("l", "$t$", "x", "y", {HOSTILE[0]: [(1, 2.0), (2, 1.0)], "b": [(1, 3.0)]}, True),
    Bars("b", "t", "y", HOSTILE[:2], {"a": [(1, 0.5, 2), (float("nan"),) * 3]}),
    Points("p", "t", {HOSTILE[1]: [(0.0, 1.0, HOSTILE[0])], "b": [(1.0, 0.0, HOSTILE[3])]}),
    Flow("f", HOSTILE[4], ["c", "1"], [[(HOSTILE[5], 3)], [("x", 1), ("y", 2)]], []),
    WordCloud("w", "t", {"lamp": 3, "<b>": 1, "日本": 2}),
)


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: type(chart).__name__)
def test_charts_are_drawn_twice(chart):
    """By matplotlib, whatever the text; and as plotly itself accepts them."""
    found = draw(chart)
    assert draw(chart) == found
    assert PIL.Image.open(io.BytesIO(found["png"])).size[0] > 500
    svg = ElementTree.fromstring(found["svg"])
    texts = " ".join(node.text or "" for node in svg.iter("{http://www.w3.org/2000/svg}text"))
    described = describe(chart)
    if isinstance(chart, Lines):
        assert HOSTILE[0][:42] in texts
        assert "$t$" in texts
    if described is None:
        assert isinstance(chart, Flow | WordCloud)
        return
    figure = go.Figure(json.loads(json.dumps(described, allow_nan=False)))
    names = [trace.name for trace in figure.data]
    assert not any("<" in (name or "") for name in names)
    if isinstance(chart, Bars):
        assert np.array(figure.data[0].error_x.array, float)[0] == 1


def test_series_look_different():
    lines = Lines("l", "t", "x", "y", {f"s{n}": [(0, n), (1, n)] for n in range(28)})
    looks = {(t["line"]["color"], t["line"]["dash"]) for t in describe(lines)["data"]}
    assert len(looks) == 28


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a b"),
        ("x" * 301, "x" * 300 + "…"),
        ("a\nb\x00", "a\\nb\\x00"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("👩‍👧 שלום", "👩‍👧 שלום"),
    ],
)
def test_plain_text(text, shown):
    assert plain(text) == shown
