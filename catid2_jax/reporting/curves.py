"""Learning curves of both stages."""

from collections.abc import Iterator, Sequence

from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Block, Charts, Lines, Prose, Section
from catid2_jax.training.metric_writer import read_metrics

_STAGES = {"rqvae": "IDs", "genret": "IDs", "seq2seq": "network", "towers": "towers"}
"""Folder of a training -> what it trains."""

_FIRST = ("loss", "first_token", "id", "recall@10", "perplexity/level_1", "category_ami/level_1")
_OF_THE_MACHINE = ("compute/", "memory/", "time/")  # say nothing of what is learnt
_POINTS = 300  # of a curve that are drawn
_CHARTS = 12  # per stage; more hide what matters


def section(comparison: Comparison) -> Section:
    """A chart per figure of a training, a curve per system."""
    blocks: list[Block] = []
    for folder, what in _STAGES.items():
        charts = list(_charts(comparison, folder, what))
        if not charts:
            continue
        blocks.append(Charts(charts[:_CHARTS]))
        left = ", ".join(chart.y for chart in charts[_CHARTS:])
        if left:
            blocks.append(Prose(f"Not drawn: {left}; TensorBoard shows all of them."))
    if not blocks:
        blocks.append(Prose("Nothing was trained here."))
    return Section("Learning curves", blocks)


def _charts(comparison: Comparison, folder: str, what: str) -> Iterator[Lines]:
    curves: dict[str, dict[str, Sequence[tuple[float, float]]]] = {}
    for directory in comparison.directories:
        for run in directory.systems:
            if run.place.model == run.place.folder:
                for name, points in read_metrics(run.place.folder / folder).items():
                    curves.setdefault(name, {})[comparison.label(run)] = thinned(points)
    learnt = (name for name in curves if not name.startswith(_OF_THE_MACHINE))
    for name in sorted(learnt, key=_importance):
        file = f"curve-{folder}-{name}".replace("/", "-").replace("@", "-at-")
        yield Lines(file, f"{what}: {name.replace('_', ' ')}", "step", name, curves[name])


def _importance(name: str) -> tuple[int, bool, str]:
    first = _FIRST.index(name) if name in _FIRST else len(_FIRST)
    return (first, name.startswith("batch_"), name)


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """At most 300 points of a curve, at equal distances, the last one among them."""
    every = -(-len(points) // _POINTS)
    return [(float(step), value) for step, value in points[::-1][::every][::-1]]
