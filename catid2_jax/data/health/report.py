"""Reports the health of a data set: tables on the console and a page of HTML."""

import dataclasses
import importlib.resources
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import jinja2
from rich.console import Console
from rich.table import Table
from rich.text import Text

from catid2_jax.data.health.findings import Finding
from catid2_jax.data.health.inspection import Health
from catid2_jax.data.health.settings import suggestion
from catid2_jax.data.health.text import printable
from catid2_jax.files import atomic_write, write_json

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_ODD_NODES = {
    "singletons": "categories of one product",
    "single_children": "categories without siblings",
    "echoes": "categories with the name of their parent",
    "inner_products": "products whose path ends where others continue",
    "recurring_names": "names that recur under other parents",
    "variant_siblings": "groups of siblings that differ only by case, spaces or punctuation",
    "variant_names": "names spelt in several ways under different parents",
    "unsplit_names": "names that seem to hold several, or a piece of a list",
}


@dataclasses.dataclass(frozen=True)
class ReportTable:
    """A table of figures, shown on the console and on the page.

    Attributes:
        title: the caption.
        columns: names of the columns, the first of which holds the rows' names.
        rows: cells of each row, one per column; they may hold hostile text from the data.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def print_health(health: Health, console: Console, flag: str = "") -> None:
    """Prints the figures as tables, suggested settings, and last the findings.

    Args:
        health: the figures and the findings.
        console: where to.
        flag: what stands before the name of a setting on the command line.
    """
    for figures in tables(health.figures):
        table = Table(title=figures.title, title_justify="left")
        for place, column in enumerate(figures.columns):
            side: Literal["left", "right"] = "left" if _is_text(place, column) else "right"
            table.add_column(column, justify=side, overflow="fold")
        for row in figures.rows:
            table.add_row(*map(_plain, row))
        console.print(table)
    console.print(suggestion(health.figures["catalog"], flag), highlight=False)
    table = Table(title="findings", title_justify="left")
    for column in ("", "finding", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in health.findings:
        what = "\n".join(map(printable, (f"{amount(finding)} {finding.what}", *finding.examples)))
        severity = Text(finding.severity, _STYLES[finding.severity])
        table.add_row(severity, Text(what), _plain(finding.advice), end_section=True)
    console.print(table if health.findings else "nothing odd was found")


def _plain(text: str) -> Text:
    """Wraps a text so that neither rich nor the terminal interprets anything in it."""
    return Text(printable(text))


def _is_text(place: int, column: str) -> bool:
    return place == 0 or column in ("which", "example")


def write_health(health: Health, directory: pathlib.Path, name: str) -> None:
    """Writes `inspect.json` and `inspect.html` atomically.

    Args:
        health: the findings and figures.
        directory: folder for the two files.
        name: the data set's name, for the page's title.
    """
    findings = [dataclasses.asdict(finding) for finding in health.findings]
    write_json(directory / "inspect.json", {"findings": findings, **health.figures})
    source = importlib.resources.files(__package__).joinpath("report.html").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"printable": printable, "amount": amount}
    page = environment.from_string(source).render(
        name=name,
        findings=health.findings,
        tables=list(tables(health.figures)),
        is_text=_is_text,
    )
    with atomic_write(directory / "inspect.html") as file:
        file.write(page)


def amount(finding: Finding) -> str:
    """Formats the count and the share: "12 of 15,799 (0.1 %)"."""
    if not finding.of:
        return f"{finding.count:,}"
    return f"{finding.count:,} of {finding.of:,} ({_percent(finding.share)})"


def tables(figures: Mapping[str, Any]) -> Iterator[ReportTable]:
    """Yields the tables that show `Health.figures`."""
    catalog, splits = figures["catalog"], figures["splits"]
    yield _shares("products by number of categories", "categories", catalog["depths"])
    yield from _tree_tables(catalog["categories"])
    repeated = {
        "the title of another": catalog["titles"]["repeated"],
        "title and text of another": catalog["texts"]["repeated_with_title"],
    }
    yield ReportTable(
        "products with the same title but for case, punctuation and spaces",
        ("with", "products", "groups", "largest group"),
        tuple(
            (name, *(f"{same[key]:,}" for key in ("count", "groups", "largest")))
            for name, same in repeated.items()
        ),
    )
    lengths = {"titles": catalog["titles"]["lengths"], "texts": catalog["texts"]["lengths"]}
    lengths |= {f"{split} queries": s["lengths"] for split, s in splits.items()}
    yield from _length_tables(lengths)
    yield _shares("products by script of most letters", "script", catalog["scripts"])
    languages = catalog["languages"]
    title = f"languages of {languages['sampled']:,} sampled products"
    rows = [(name, _percent(share)) for name, share in languages["shares"].items()]
    yield ReportTable(title, ("language", "share"), tuple(rows))
    missing = catalog["missing_fields"]
    yield _shares("products without a field", "field", missing, catalog["products"])
    yield _oddity_table(catalog, splits)
    if splits:
        yield _split_table("queries and judgements", splits)
        yield _distributions(
            "relevant documents per query that has any",
            {split: s["relevant_per_query"] for split, s in splits.items()},
        )
    yield _between_table(figures["between"])


def _shares(
    title: str, name: str, counts: Mapping[str, Any], whole: int | None = None
) -> ReportTable:
    plain = {key: n if isinstance(n, int) else n["count"] for key, n in counts.items()}
    whole = sum(plain.values()) if whole is None else whole
    rows = [(key, f"{n:,}", _percent(n / whole)) for key, n in plain.items()]
    return ReportTable(title, (name, "products", "share"), tuple(rows))


def _tree_tables(tree: Mapping[str, Any]) -> Iterator[ReportTable]:
    levels = list(enumerate(tree["levels"], 1))
    yield ReportTable(
        "products per category, by level",
        ("level", "categories", "min", "median", "max"),
        tuple(
            (str(n), *(_number(level[key]) for key in ("nodes", "min", "median", "max")))
            for n, level in levels
        ),
    )
    yield ReportTable(
        "oddities in the category tree",
        ("oddity", "number"),
        tuple((name, f"{tree[key]['count']:,}") for key, name in _ODD_NODES.items()),
    )
    yield ReportTable(
        "largest categories",
        ("category", "level", "products"),
        tuple(
            (" > ".join(node["path"]), str(n), f"{node['products']:,}")
            for n, level in levels
            for node in level["largest"]
        ),
    )


def _length_tables(lengths: Mapping[str, Mapping[str, Any]]) -> Iterator[ReportTable]:
    measured = {name: figures for name, figures in lengths.items() if figures}
    for unit in ("characters", "words"):
        yield _distributions(
            f"{unit} of texts that are not empty", {name: f[unit] for name, f in measured.items()}
        )
    yield ReportTable(
        "shortest and longest",
        ("of", "which", "example"),
        tuple(
            (name, which, figures[which])
            for name, figures in measured.items()
            for which in ("shortest", "longest")
        ),
    )


def _distributions(title: str, values: Mapping[str, Mapping[str, float]]) -> ReportTable:
    values = {name: distribution for name, distribution in values.items() if distribution}
    columns = next(iter(values.values()), {})
    rows = tuple((name, *map(_number, d.values())) for name, d in values.items())
    return ReportTable(title, ("of", *columns), rows)


def _oddity_table(catalog: Mapping[str, Any], splits: Mapping[str, Any]) -> ReportTable:
    places = {
        "products": catalog["oddities"],
        "of these in the title": catalog["odd_titles"],
        "category names": catalog["categories"]["oddities"],
        **{f"{split} queries": s["oddities"] for split, s in splits.items()},
    }
    rows = []
    for name in catalog["oddities"]:
        found = [place.get(name, 0) for place in places.values()]
        counts = [n if isinstance(n, int) else n["count"] for n in found]
        rows.append((name.replace("_", " "), *(f"{n:,}" for n in counts)))
    return ReportTable("oddities in texts", ("oddity", *places), tuple(rows))


def _split_table(title: str, splits: Mapping[str, Mapping[str, Any]]) -> ReportTable:
    keys: Sequence[tuple[str, ...]] = (
        ("queries",),
        ("judged_queries",),
        ("judgements",),
        ("pairs",),
        ("grades", "E"),
        ("grades", "S"),
        ("grades", "C"),
        ("grades", "I"),
        ("judged_documents",),
        ("relevant_documents",),
        ("without_relevant", "count"),
        ("head", "share"),
        ("repeated", "count"),
        ("empty", "count"),
        ("titles", "count"),
        ("unknown_documents", "count"),
        ("unknown_queries", "count"),
    )
    rows = []
    for key in keys:
        values = [_get(figures, key) for figures in splits.values()]
        name = " ".join(part for part in key if part != "count").replace("_", " ")
        texts = [_percent(v) if key[-1] == "share" else _number(v) for v in values]
        rows.append((name, *texts))
    return ReportTable(title, ("figure", *splits), tuple(rows))


def _between_table(between: Mapping[str, Any]) -> ReportTable:
    rows = [
        (name, *(f"{common[key]['count']:,}" for key in ("ids", "queries", "pairs")))
        for name, common in between.items()
    ]
    columns = ("which", "ids", "queries of the same text", "pairs of the same text and product")
    return ReportTable("what splits have in common", columns, tuple(rows))


def _get(figures: Mapping[str, Any], key: Sequence[str]) -> Any:
    for part in key:
        figures = figures[part]
    return figures


def _number(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"


def _percent(share: float) -> str:
    """Formats a percentage with one digit, but a small share that is not 0 as "< 0.1 %"."""
    return f"{share:.1%}".replace("%", " %") if share >= 0.001 or not share else "< 0.1 %"
