"""Draws charts as PNG and SVG, by matplotlib."""

import io
import logging
import math
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from wordcloud import WordCloud as Cloud

from catid2_jax.reporting.colors import COLORS, style
from catid2_jax.reporting.page import Bars, Chart, Flow, Lines, Points, WordCloud
from catid2_jax.reporting.text import plain

_LABEL = 42  # characters
_LONG = 14  # characters of a group's name from which bars lie
_FONTS = (
    *("DejaVu Sans", "Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Arabic"),
    *("Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Emoji"),
)
_LINES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_SETTINGS: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 150,
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text, which can be searched and read aloud
    "svg.hashsalt": "catid2",  # the same chart gives the same bytes
    "text.parse_math": False,
}


def draw(chart: Chart) -> dict[str, bytes]:
    """Draws a chart: "png" and "svg" -> contents of the file; the same chart, the same bytes."""
    if isinstance(chart, WordCloud):
        return _draw_words(chart)
    known = {font.name for font in fontManager.ttflist}
    fonts = [name for name in _FONTS if name in known]
    with (
        warnings.catch_warnings(),
        matplotlib.style.context("default"),
        matplotlib.rc_context(_SETTINGS | {"font.family": fonts}),
    ):
        # A character that no font has is a box in the PNG; the page and the SVG have its text.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        figure = Figure(figsize=_size(chart), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(plain(chart.title, 90), loc="left", fontsize=10, fontweight="bold")
        _DRAW[type(chart)](axes, chart)
        return {form: _saved(figure, form) for form in ("png", "svg")}


def _saved(figure: Figure, form: str) -> bytes:
    file = io.BytesIO()
    nothing = {"Date": None} if form == "svg" else {"Software": None}
    figure.savefig(file, format=form, metadata=nothing)
    return file.getvalue()


def _size(chart: Chart) -> tuple[float, float]:
    """Width and height in inches."""
    if isinstance(chart, Bars):
        bars = len(chart.groups) * (1 if chart.stacked else len(chart.series))
        return 7.0, max(3.2, 1.6 + 0.17 * bars) if is_lying(chart) else 4.2
    return (6.6, 6.4) if isinstance(chart, Flow) else (7.0, 4.2)


def is_lying(chart: Bars) -> bool:
    """Whether the bars lie, since the groups' names are long."""
    return any(len(group) > _LONG for group in chart.groups)


def _draw_lines(axes: Axes, chart: Lines) -> None:
    for number, (label, points) in enumerate(chart.series.items()):
        color, dash = style(number)
        x, y = zip(*points, strict=True)
        axes.plot(
            x,
            y,
            color=color,
            label=plain(label, _LABEL),
            linestyle=_LINES[dash],
            marker="o" if chart.markers else "",
            markersize=4,
        )
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    if chart.log_x:
        axes.set_xscale("log")
    elif chart.markers:
        axes.xaxis.set_major_locator(MaxNLocator(integer=_are_whole(chart)))
    _legend(axes, len(chart.series))


def _are_whole(chart: Lines) -> bool:
    """Whether the axis has whole numbers only."""
    return all(float(x).is_integer() for points in chart.series.values() for x, _ in points)


def _draw_bars(axes: Axes, chart: Bars) -> None:
    lying = is_lying(chart)
    count = 1 if chart.stacked else len(chart.series)
    width, places = 0.8 / count, list(range(len(chart.groups)))
    bottom = [0.0] * len(places)
    for number, (label, bars) in enumerate(chart.series.items()):
        values = [value for value, _, _ in bars]
        shift = 0.0 if chart.stacked else (number - (count - 1) / 2) * width
        color, dash = style(number)
        errors = _errors(bars)
        options: dict[str, Any] = {
            "color": color,
            "hatch": "" if dash == "solid" else "//",
            "label": plain(label, _LABEL),
            "error_kw": {"elinewidth": 1, "ecolor": "#222222"},
        }
        at = [place + shift for place in places]
        if lying:
            axes.barh(at, values, width, left=bottom, xerr=errors, **options)
        else:
            axes.bar(at, values, width, bottom=bottom, yerr=errors, **options)
        if chart.stacked:
            bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    names = [plain(group, _LABEL) for group in chart.groups]
    if lying:
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set_xlabel(chart.y)
        axes.grid(visible=False, axis="y")
    else:
        axes.set_xticks(places, names)
        axes.set_ylabel(chart.y)
        axes.grid(visible=False, axis="x")
    axes.set_axisbelow(True)
    _legend(axes, len(chart.series))


def _errors(bars: Any) -> list[list[float]] | None:
    """Lengths of the intervals below and above the values; None where there are none."""
    if all(low == high or math.isnan(value) for value, low, high in bars):
        return None
    return [[v - low for v, low, _ in bars], [high - v for v, _, high in bars]]


def _draw_points(axes: Axes, chart: Points) -> None:
    for number, (label, points) in enumerate(chart.groups.items()):
        x, y, _ = zip(*points, strict=True)
        color = style(number)[0]
        axes.scatter(x, y, s=7, alpha=0.75, lw=0, color=color, label=plain(label, _LABEL))
    axes.set_xticks([])
    axes.set_yticks([])
    _legend(axes, len(chart.groups), markerscale=2.5)


def _legend(axes: Axes, count: int, **options: Any) -> None:
    if count > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=2, fontsize=8, **options)


def _draw_flow(axes: Axes, chart: Flow) -> None:
    """Nodes from top to bottom in columns, and a band for each link, in its category's colour."""
    total = max(sum(size for _, size in column) for column in chart.nodes)
    gap = 0.012 * total
    tops = [_tops(column, gap) for column in chart.nodes]
    thick = 0.07
    out = [list(column) for column in tops]
    into = [list(column) for column in tops]
    for column, start, end, size, origin in chart.links:
        y0, y1 = out[column][start], into[column + 1][end]
        out[column][start] += size
        into[column + 1][end] += size
        color = COLORS[origin % len(COLORS)]
        axes.add_patch(_band(column + thick, column + 1, y0, y1, size, color))
    for x, (nodes, top) in enumerate(zip(chart.nodes, tops, strict=True)):
        for number, ((label, size), y) in enumerate(zip(nodes, top, strict=True)):
            color = COLORS[number % len(COLORS)] if x == 0 else "#333333"
            axes.add_patch(Rectangle((x, y), thick, size, color=color, lw=0))
            if size > 0.012 * total:
                at, side = (x - 0.03, "right") if x == 0 else (x + 0.1, "left")
                axes.text(at, y + size / 2, plain(label, 28), va="center", ha=side, fontsize=8)
    for x, head in enumerate(chart.columns):
        axes.text(x + thick / 2, -0.02 * total, head, ha="center", va="bottom", fontsize=8)
    axes.set_xlim(-1.15, len(chart.columns) - 0.6)
    axes.set_ylim(total * 1.02 + gap * max(map(len, chart.nodes)), -0.06 * total)
    axes.set_axis_off()


def _tops(column: Any, gap: float) -> list[float]:
    tops, y = [], 0.0
    for _, size in column:
        tops.append(y)
        y += size + gap
    return tops


def _band(x0: float, x1: float, y0: float, y1: float, size: int, color: str) -> PathPatch:
    middle = (x0 + x1) / 2
    points = [
        *((x0, y0), (middle, y0), (middle, y1), (x1, y1)),
        *((x1, y1 + size), (middle, y1 + size), (middle, y0 + size), (x0, y0 + size)),
        (x0, y0),
    ]
    curve = [Path.CURVE4] * 3
    codes = [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY]
    return PathPatch(Path(points, codes), facecolor=color, alpha=0.35, lw=0)


_DRAW: dict[type, Callable[[Axes, Any], None]] = {
    Lines: _draw_lines,
    Bars: _draw_bars,
    Points: _draw_points,
    Flow: _draw_flow,
}


def _draw_words(chart: WordCloud) -> dict[str, bytes]:
    cloud = Cloud(
        font_path=findfont("DejaVu Sans"),
        width=900,
        height=540,
        background_color="white",
        color_func=_word_color,
        random_state=chart.seed,
        prefer_horizontal=1.0,
        max_font_size=110,
    )
    words = {plain(word, _LABEL): count for word, count in chart.words.items()}
    cloud.generate_from_frequencies(words)
    file = io.BytesIO()
    cloud.to_image().save(file, "PNG")
    return {"png": file.getvalue(), "svg": cloud.to_svg().encode("utf-8")}


def _word_color(word: str, **_: Any) -> str:
    """One of the colours, always the same for a word."""
    return COLORS[sum(map(ord, word)) % len(COLORS)]
