import dataclasses
import html.parser
import io
import json
import re

import pytest
import rich.console

from catid2_jax.data.health.findings import Finding
from catid2_jax.data.health.inspection import Split
from catid2_jax.data.health.report import amount, print_health, tables, write_health
from catid2_jax.data.health.text import printable
from catid2_jax.types import Query
from tests.data.health.data_sets import clean_products, clean_splits, health, with_product

HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=y>"
VOID = {"meta", "br", "img", "link", "input"}


class Page(html.parser.HTMLParser):
    """The elements of a page with their attributes, and the text outside of styles."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag  # every element is closed, the innermost first

    def handle_data(self, text):
        if self.open and self.open[-1] != "style":
            self.texts.append(text)

    @property
    def text(self):
        return "".join(self.texts)

    def tags(self):
        return {tag for tag, _ in self.elements}


def page(found, tmp_path, name="shop"):
    write_health(found, tmp_path, name)
    return Page((tmp_path / "inspect.html").read_text(encoding="utf-8"))


def printed(found, width=200):
    text = io.StringIO()
    print_health(found, rich.console.Console(file=text, width=width, highlight=False))
    return text.getvalue()


def hostile_health():
    """Inspects a data set with hostile text wherever it can hold some."""
    bell = "\x1b]0;owned\x07\u202e"
    products = with_product(
        id=f"<p>{bell}",
        title="[link=x]y[/link]" + HOSTILE + bell,
        text=HOSTILE + "[bold red]" + bell,
        categories=("Top A", HOSTILE + bell, "[red]x[/red]"),
        extra={HOSTILE + bell: None},
    )
    splits = clean_splits()
    test = splits["test"]
    queries = [*test.queries, Query(f"<q>{bell}", HOSTILE + bell)]
    splits["test"] = Split(queries, test.qrels | {"<i>\x1b": {"<d>\x1b": 3}})
    return health(products, splits)


def test_the_page_escapes_everything(tmp_path):
    clean, hostile = page(health(), tmp_path), page(hostile_health(), tmp_path, HOSTILE)
    assert hostile.tags() <= clean.tags() | {"ul", "li", "code"}
    for tag, attributes in hostile.elements:
        assert not {name for name in attributes if name.startswith("on")}, tag
    assert "<script>alert(" in hostile.text
    assert f"Health of {HOSTILE}" in hostile.text


def test_what_a_browser_could_obey_besides_markup_is_shown_as_escapes(tmp_path):
    text = page(hostile_health(), tmp_path).text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "\\u202e" in text


def test_a_terminal_obeys_nothing_that_stands_in_the_data():
    text = printed(hostile_health())
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    # The console does not take it for its own markup either.
    assert "[link=x]y[/link]" in text
    assert "\\x1b]0;owned" in text


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    found = page(health(), tmp_path)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & found.tags()
    source = (tmp_path / "inspect.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", source)
    policy = [a["content"] for t, a in found.elements if "http-equiv" in a]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_the_page_can_be_read_by_ear(tmp_path):
    found = page(hostile_health(), tmp_path)
    count = {tag: [t for t, _ in found.elements].count(tag) for tag in found.tags()}
    assert ("html", {"lang": "en"}) in found.elements
    assert count["title"] == count["main"] == count["h1"] == 1
    assert count["caption"] == count["table"] > 5
    assert all(a.get("scope") in ("col", "row") for t, a in found.elements if t == "th")
    # A part that scrolls can be reached by keyboard and has a name that is there.
    ids = {a["id"] for _, a in found.elements if "id" in a}
    regions = [a for _, a in found.elements if a.get("role") == "region"]
    assert len(regions) == count["table"]
    assert {a["aria-labelledby"] for a in regions} <= ids
    assert {a["tabindex"] for a in regions} == {"0"}


@pytest.mark.parametrize("show", ["page", "console"])
def test_every_figure_of_the_tables_is_shown(tmp_path, show):
    found = hostile_health()
    text = page(found, tmp_path).text if show == "page" else printed(found, 2000)
    text = " ".join(text.split())  # the console folds a title that is wider than its table
    for table in tables(found.figures):
        assert table.title in text
        for row in table.rows:
            assert len(row) == len(table.columns)
            assert printable(row[0]) in text
            assert printable(row[-1]) in text
    for finding in found.findings:
        assert f"{amount(finding)} {finding.what}" in text
        assert finding.severity in text


def test_rows_by_hand():
    rows = {t.title: (t.columns, t.rows) for t in tables(health().figures)}
    assert rows["products by number of categories"] == (
        ("categories", "products", "share"),
        (("3", "80", "100.0 %"),),
    )
    levels = rows["products per category, by level"]
    assert levels[0] == ("level", "categories", "min", "median", "max")
    assert levels[1] == (
        ("1", "2", "40", "40", "40"),
        ("2", "4", "20", "20", "20"),
        ("3", "8", "10", "10", "10"),
    )
    split = {row[0]: row[1:] for row in rows["queries and judgements"][1]}
    assert split["queries"] == ("80", "16", "40")
    assert split["grades E"] == ("80", "16", "40")
    assert split["head share"] == ("1.2 %", "6.2 %", "2.5 %")
    assert rows["products without a field"][1] == (
        ("text", "0", "0.0 %"),
        ("brand", "0", "0.0 %"),
    )
    assert {count for _, count in rows["oddities in the category tree"][1]} == {"0"}
    same = "products with the same title but for case, punctuation and spaces"
    assert rows[same] == (
        ("with", "products", "groups", "largest group"),
        (("the title of another", "0", "0", "0"), ("title and text of another", "0", "0", "0")),
    )
    common = rows["what splits have in common"][1]
    assert common[1] == ("test in train", "0", "0", "0")


def test_what_recurs_is_counted_in_the_tables():
    products = clean_products()
    # Two of a leaf of Top A go to a leaf of the same name in Top B, two have one title.
    for place in (0, 1):
        path = ("Top B", "Middle E", products[20].categories[2])
        products[place] = dataclasses.replace(products[place], categories=path)
    for place in (30, 31, 32):
        products[place] = dataclasses.replace(products[place], title=f"A title{'!' * (place % 2)}")
    products[40] = dataclasses.replace(products[40], categories=("Top B", "Middle E", "Alone"))
    rows = {t.title: {row[0]: row[1:] for row in t.rows} for t in tables(health(products).figures)}
    tree = rows["oddities in the category tree"]
    assert tree["categories of one product"] == ("1",)
    assert tree["names that recur under other parents"] == ("1",)
    assert tree["categories without siblings"] == ("0",)
    same = rows["products with the same title but for case, punctuation and spaces"]
    assert same["the title of another"] == ("3", "1", "3")
    assert same["title and text of another"] == ("0", "0", "0")


def test_a_catalogue_alone_has_its_tables(tmp_path):
    alone = health(splits={})
    with_splits = {table.title for table in tables(health().figures)}
    assert with_splits - {table.title for table in tables(alone.figures)} == {
        "queries and judgements",
        "relevant documents per query that has any",
    }
    assert "80 of 80 (100.0 %) products in no training pair" in page(alone, tmp_path).text


def test_a_narrow_console_cuts_nothing_off():
    word = "".join(f"part{n}_" for n in range(20))
    finding = Finding("note", "categories without siblings", 1, 2, (), word)
    text = printed(dataclasses.replace(health(), findings=(finding,)), 80)
    text = text[text.index("findings") :]
    assert "…" not in text
    # A word too long for its column continues on the next line.
    column = "".join(line.split("│")[-2].strip() for line in text.splitlines() if "│" in line)
    assert word in column


def test_a_clean_data_set_says_so(tmp_path):
    assert "Nothing odd was found." in page(health(), tmp_path).text
    assert "nothing odd was found" in printed(health())


@pytest.mark.parametrize(
    ("count", "of", "text"),
    [
        (12, 15_799, "12 of 15,799 (< 0.1 %)"),
        (158, 15_799, "158 of 15,799 (1.0 %)"),
        (3, 3, "3 of 3 (100.0 %)"),
        (1500, 0, "1,500"),
    ],
)
def test_amount(count, of, text):
    assert amount(Finding("note", "x", count, of, (), "")) == text


def test_json_has_findings_and_figures(tmp_path):
    found = hostile_health()
    write_health(found, tmp_path, "shop")
    written = json.loads((tmp_path / "inspect.json").read_text(encoding="utf-8"))
    assert written["catalog"] == json.loads(json.dumps(found.figures["catalog"]))
    assert [f["what"] for f in written["findings"]] == [f.what for f in found.findings]
    assert written["findings"][0].keys() == {
        "severity",
        "what",
        "count",
        "of",
        "examples",
        "advice",
    }
