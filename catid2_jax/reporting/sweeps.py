"""Figure 5: Recall over the weights, codebooks and depths that `reproduce figure5` has run."""

import csv
import pathlib
import re
from collections.abc import Mapping

from catid2_jax.errors import InputError
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Charts, Lines, Section

_WIDE = 8  # ratio of the values from which their axis is logarithmic
_ROW = re.compile(r"figure5_(tiger_)?([a-z_]+)_([\d.e+-]+)")


def section(comparison: Comparison) -> Section | None:
    """A chart per setting, a curve per measure; None where there is no `figure5.csv`.

    It lies beside the work directories of `reproduce`, or in this one.
    """
    root = comparison.main.workdir.root
    paths = [folder / "figure5.csv" for folder in (root, root.resolve().parent)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    charts = []
    for name, curves in read_sweeps(path, root.resolve().name).items():
        values = [value for points in curves.values() for value, _ in points]
        log_x = min(values) > 0 and max(values) >= _WIDE * min(values)
        title = name.replace("_", " ")
        file = f"figure5-{name}".replace("_", "-")
        charts.append(Lines(file, title, title, "Recall, %", curves, True, log_x))
    return Section("Sweeps (Figure 5)", [Charts(charts)]) if charts else None


def read_sweeps(
    path: pathlib.Path, data: str
) -> Mapping[str, Mapping[str, list[tuple[float, float]]]]:
    """Reads what `reproduce figure5` wrote.

    Args:
        path: the file.
        data: the set of data, where the file has it; otherwise its first.

    Returns:
        Setting -> system and measure -> (value of the setting, Recall in %), by value.

    Raises:
        InputError: a column is missing, or a value is no number.
    """
    with open(path, encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    try:
        sets = list(dict.fromkeys(line["data"] for line in lines))
        chosen = data if data in sets else next(iter(sets), "")
        for line in lines:
            match = _ROW.fullmatch(line["system"])
            if match and line["data"] == chosen and line["measure"].startswith("recall@"):
                measure = line["measure"].replace("recall@", "R@")
                label = f"TIGER, {measure}" if match[1] else measure
                curves = found.setdefault(match[2], {})
                curves.setdefault(label, []).append((float(match[3]), float(line["mean"])))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, f"{error}", "the table that `reproduce figure5` writes") from error
    return {
        name: {label: sorted(points) for label, points in curves.items()}
        for name, curves in found.items()
    }
