"""Describes charts for plotly.js, which draws them in the page."""

import html
import math
from collections.abc import Callable
from typing import Any

from catid2_jax.reporting.colors import style
from catid2_jax.reporting.page import Bars, Chart, Lines, Points
from catid2_jax.reporting.static import is_lying
from catid2_jax.reporting.text import plain

_FONT = {"family": "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", "size": 12}
_LEGEND = {
    "orientation": "h",
    "x": 0,
    "y": 0,
    "yanchor": "bottom",
    "yref": "container",
}
_GRID = {"gridcolor": "#e4e4e4", "zeroline": False, "automargin": True, "linecolor": "#999"}


def describe(chart: Chart) -> dict[str, Any] | None:
    """The data and the layout of a chart as plotly.js takes them; None for what is a picture."""
    found = _DESCRIBE.get(type(chart))
    if found is None:
        return None
    data, layout = found(chart)
    common = {
        "font": _FONT,
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "legend": _LEGEND,
        "showlegend": len(data) > 1,
        "hoverlabel": {"align": "left"},
    }
    return {"data": data, "layout": common | layout}


def shown(text: str, most: int = 42) -> str:
    """A text as plotly.js shows it unchanged: it reads a little HTML, which is escaped here."""
    return html.escape(plain(text, most), quote=False)


def _lines(chart: Lines) -> tuple[list[Any], dict[str, Any]]:
    data = []
    for number, (label, points) in enumerate(chart.series.items()):
        color, dash = style(number)
        x, y = zip(*points, strict=True)
        mode = "lines+markers" if chart.markers else "lines"
        trace = {"type": "scatter", "mode": mode, "x": x, "y": list(map(_finite, y))}
        data.append({**trace, "name": shown(label), "line": {"color": color, "dash": dash}})
    x_axis = _axis(chart.x) | ({"type": "log"} if chart.log_x else {})
    if chart.markers and not chart.log_x:
        x_axis["dtick"] = 1 if all(float(p[0]).is_integer() for p in _all_points(chart)) else None
    return data, {"xaxis": x_axis, "yaxis": _axis(chart.y), "height": max(360, _room(data))}


def _room(data: list[Any]) -> int:
    """A height at which a legend of a row for each is shown: it scrolls from half of it on."""
    return 42 * len(data)


def _all_points(chart: Lines) -> list[tuple[float, float]]:
    return [point for points in chart.series.values() for point in points]


def _bars(chart: Bars) -> tuple[list[Any], dict[str, Any]]:
    lying = is_lying(chart)
    groups = [shown(group) for group in chart.groups]
    data = []
    for number, (label, bars) in enumerate(chart.series.items()):
        values = [_finite(value) for value, _, _ in bars]
        trace: dict[str, Any] = {"type": "bar", "name": shown(label)}
        color, dash = style(number)
        trace["marker"] = {"color": color, "pattern": {"shape": "" if dash == "solid" else "/"}}
        along, across = ("x", "y") if lying else ("y", "x")
        trace |= {along: values, across: groups, "orientation": "h" if lying else "v"}
        if any(low < high for _, low, high in bars):
            above = [_finite(high - value) for value, _, high in bars]
            below = [_finite(value - low) for value, low, _ in bars]
            error = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
            trace[f"error_{along}"] = {**error, "thickness": 1, "width": 2}
        data.append(trace)
    layout: dict[str, Any] = {"barmode": "stack" if chart.stacked else "group"}
    names = {"type": "category", **_GRID, "showgrid": False}
    layout["xaxis"], layout["yaxis"] = _axis(chart.y), {**names, "autorange": "reversed"}
    if not lying:
        layout["xaxis"], layout["yaxis"] = names, _axis(chart.y)
    bars_shown = len(groups) * (1 if chart.stacked else len(data))
    return data, layout | {"height": max(360, 130 + 16 * bars_shown if lying else _room(data))}


def _points(chart: Points) -> tuple[list[Any], dict[str, Any]]:
    data = []
    for number, (label, points) in enumerate(chart.groups.items()):
        x, y, texts = zip(*points, strict=True)
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "x": x,
            "y": y,
            "name": shown(label),
        }
        trace |= {"text": [shown(text, 120) for text in texts], "hoverinfo": "text"}
        trace["marker"] = {"size": 5, "opacity": 0.75, "color": style(number)[0]}
        data.append(trace)
    blank = {"showticklabels": False, "showgrid": False, "zeroline": False}
    legend = {**_LEGEND, "itemsizing": "constant"}
    return data, {"xaxis": blank, "yaxis": blank, "legend": legend}


def _axis(title: str) -> dict[str, Any]:
    return {**_GRID, "title": {"text": shown(title), "standoff": 8}}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


_DESCRIBE: dict[type, Callable[[Any], tuple[list[Any], dict[str, Any]]]] = {
    Lines: _lines,
    Bars: _bars,
    Points: _points,
}
