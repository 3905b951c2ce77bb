"""Health of the document IDs per level, before any model is trained on them."""

import math

from catid2_jax.data.category_tree import category_ids
from catid2_jax.docids.quality import docid_quality
from catid2_jax.files import read_json
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Block, Charts, Lines, Prose, Section, Table
from catid2_jax.reporting.runs import SystemRun

_DRAWN = {
    "perplexity": "codes in even use",
    "category_ami": "agreement with the categories (AMI)",
    "quantization_error": "quantisation error",
}


def section(comparison: Comparison) -> Section:
    """Usage, agreement with categories and common prefixes of each system's IDs."""
    runs = [run for directory in comparison.directories for run in directory.systems]
    figures = {comparison.label(run): quality(run) for run in runs if run.has_docids}
    if not figures:
        return Section("Document IDs", [Prose("No system here has document IDs of its own.")])
    levels: dict[str, dict[str, dict[int, float]]] = {}
    others: dict[str, dict[str, float]] = {}
    for label, found in figures.items():
        for key, value in found.items():
            name, _, level = key.partition("/level_")
            if name.startswith("before_reassignment/"):
                continue
            if level:
                levels.setdefault(name, {}).setdefault(label, {})[int(level)] = value
            else:
                others.setdefault(name, {})[label] = value
    charts = [
        Lines(f"ids-{name}".replace("_", "-"), title, "level", title, _points(levels[name]), True)
        for name, title in _DRAWN.items()
        if name in levels
    ]
    blocks: list[Block] = [Charts(charts)] if charts else []
    depth = max(max(values) for by_label in levels.values() for values in by_label.values())
    columns = ("figure", "system", *(f"level {level}" for level in range(1, depth + 1)))
    rows = [
        (_words(name), label, *(_cell(values.get(n)) for n in range(1, depth + 1)))
        for name, by_label in levels.items()
        for label, values in by_label.items()
    ]
    blocks.append(Table("Per level of the ID", columns, rows, texts=(1,)))
    rows = [
        (_words(name), *(_cell(by_label.get(label)) for label in figures))
        for name, by_label in others.items()
    ]
    blocks.append(Table("Of whole IDs", ("figure", *figures), rows))
    return Section("Document IDs", blocks)


def quality(run: SystemRun) -> dict[str, float]:
    """The figures that a system's scheme left, and those of its table of IDs."""
    paths = run.catalog.paths
    categories = category_ids(paths, max(map(len, paths)))
    path = run.place.figures("docids")
    left = dict(read_json(path)) if path.exists() else {}
    return left | docid_quality(run.table.codes, run.table.codebook_size, categories)


def _points(by_label: dict[str, dict[int, float]]) -> dict[str, list[tuple[float, float]]]:
    return {
        label: [(float(level), value) for level, value in sorted(values.items())]
        for label, values in by_label.items()
    }


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if math.isclose(value, round(value)) else f"{value:,.3f}"


def _words(name: str) -> str:
    return name.replace("_", " ").replace("/", ", ")
