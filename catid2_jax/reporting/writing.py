"""Writes a report: the page, and its charts as files beside it."""

import base64
import importlib.resources
import pathlib
from collections.abc import Callable, Iterator

import jinja2

from catid2_jax.files import atomic_folder
from catid2_jax.progress import console
from catid2_jax.reporting import (
    calibration,
    configuration,
    curves,
    embedding_map,
    flow,
    id_health,
    id_table,
    id_tree,
    leakage,
    lost_queries,
    proofs,
    query_kinds,
    resources,
    retrieval,
    sweeps,
    words,
)
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.interactive import describe
from catid2_jax.reporting.page import Chart, Charts, Section
from catid2_jax.reporting.static import draw
from catid2_jax.reporting.text import plain

PAGE = "index.html"

_SECTIONS: tuple[Callable[[Comparison], Section | None], ...] = (
    retrieval.section,
    configuration.section,
    resources.section,
    curves.section,
    id_health.section,
    leakage.section,
    query_kinds.section,
    lost_queries.section,
    calibration.section,
    proofs.section,
    flow.section,
    embedding_map.section,
    sweeps.section,
    words.section,
    id_table.section,
    id_tree.section,
)
"""What makes the sections, in their order on the page."""


def write_report(comparison: Comparison, folder: pathlib.Path) -> None:
    """Writes `index.html`, and each chart as PNG and SVG; the folder is new as a whole.

    Args:
        comparison: what the report is about.
        folder: what was in it before is gone.
    """
    sections = list(_sections(comparison))
    pictures = {chart.name: draw(chart) for chart in _charts(sections)}
    page = render(comparison, sections, {name: found["png"] for name, found in pictures.items()})
    with atomic_folder(folder) as new:
        (new / PAGE).write_text(page, encoding="utf-8", newline="\n")
        for name, forms in pictures.items():
            for form, content in forms.items():
                (new / f"{name}.{form}").write_bytes(content)


def _sections(comparison: Comparison) -> Iterator[Section]:
    for make in _SECTIONS:
        section = make(comparison)
        if section is not None:
            console.print(f"  {section.title}", highlight=False)
            yield section


def _charts(sections: list[Section]) -> Iterator[Chart]:
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Charts):
                yield from block.charts


def render(comparison: Comparison, sections: list[Section], pictures: dict[str, bytes]) -> str:
    """The page as HTML.

    Args:
        comparison: what it is about.
        sections: what it shows.
        pictures: name of a chart -> PNG, for those that plotly.js does not draw.
    """
    here = importlib.resources.files(__package__)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["plain"] = plain
    script = importlib.resources.files("plotly") / "package_data" / "plotly.min.js"
    names = [directory.name for directory in comparison.directories]
    return environment.from_string(here.joinpath("page.html").read_text("utf-8")).render(
        title=f"Report of {' and '.join(names)}",
        sections=sections,
        kind=lambda block: type(block).__name__,
        describe=describe,
        image=lambda chart: base64.b64encode(pictures[chart.name]).decode("ascii"),
        plotly=script.read_text("utf-8"),
    )
