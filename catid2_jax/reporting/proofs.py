"""What the exactness proof of the beam search covered."""

import numpy as np

from catid2_jax.files import read_json
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.measures import main_cutoff, measure
from catid2_jax.reporting.page import Prose, Section, Table
from catid2_jax.reporting.runs import Directory, SystemRun


def section(comparison: Comparison) -> Section | None:
    """Per run, how many results are proven, and Recall with and without; None without a search."""
    rows = []
    for directory in comparison.directories:
        for run in directory.systems:
            if run.is_ranked and run.place.docids.exists():
                rows.append((comparison.label(run), *_cells(run, directory)))
    if not rows:
        return None
    about = (
        "A result is proven where no product outside of it can have a higher score than one in "
        "it: an ID's score never rises as codes are added, and the search knows the best score "
        "that it left behind. More beams prove more. A proof says that the search missed nothing, "
        "not that the network is right: compare Recall with and without one."
    )
    columns = (
        *("", "beams", "products per query", "queries", "proven"),
        *("Recall where proven, %", "Recall where not, %"),
    )
    return Section("Proven results", [Prose(about), Table("Results of the search", columns, rows)])


def _cells(run: SystemRun, directory: Directory) -> tuple[str, ...]:
    section = run.records["retrieve"].config["retrieve"]
    size = (f"{section['beams']:,}", f"{run.k:,}")
    path = run.place.figures("retrieve")
    if not path.exists():
        return (*size, f"{len(directory.queries['test']):,}", "not recorded", "", "")
    figures = read_json(path)
    total, proven = figures["queries"], set(figures["proven"])
    share = f"{len(proven):,} ({len(proven) / total:.1%})".replace("%", " %")
    names = [name for name in measure(run, directory) if name.startswith("recall@")]
    if not names:
        return (*size, f"{total:,}", share, "", "")
    k = main_cutoff([int(name.removeprefix("recall@")) for name in names])
    values = measure(run, directory)[f"recall@{k}"]
    holds = np.array([query in proven for query in directory.relevant])
    recall = [f"{values[m].mean():.1f} (@{k})" if m.any() else "" for m in (holds, ~holds)]
    return (*size, f"{total:,}", share, *recall)
