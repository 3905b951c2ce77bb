"""Figure 3: how the products of the largest categories flow through the codes of each level."""

import collections

import numpy as np

from catid2_jax.data.category_tree import category_ids
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Charts, Flow, Prose, Section
from catid2_jax.reporting.runs import SystemRun

CATEGORIES, CODES = 10, 12
"""Categories that are drawn, and codes of a level; the others of a level are one node."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def section(comparison: Comparison) -> Section:
    """A diagram per system that is shown."""
    charts = [make_flow(run, label) for label, run in comparison.shown]
    title = "From categories to codes (Figure 3)"
    if not charts:
        return Section(title, [Prose("No system here has document IDs of its own.")])
    about = (
        f"All products of the {CATEGORIES} largest categories of the first level that has as many, "
        f"or of the deepest. A node's height is its number of products, a band's width those that "
        f"two nodes share. Per level the {CODES} codes of most of these products are drawn, all "
        "others are one node. Where IDs follow the categories, few bands leave a category."
    )
    return Section(title, [Prose(about), Charts(charts)])


def make_flow(run: SystemRun, label: str) -> Flow:
    """The products of the largest categories through the codes of a system's IDs."""
    paths = run.catalog.paths
    nodes, level = chosen_categories(paths, CATEGORIES)
    counts = collections.Counter(nodes[nodes >= 0].tolist())
    largest = [node for node, _ in counts.most_common(CATEGORIES)]
    members = np.flatnonzero(np.isin(nodes, largest))
    place = {node: number for number, node in enumerate(largest)}
    first = {int(nodes[row]): paths[row][level] for row in members[::-1]}
    columns = [np.array([place[int(node)] for node in nodes[members]])]
    labels = [[first[node] for node in largest]]
    for number, codes in enumerate(run.table.codes[members].T):
        column, names = _level(codes, _LETTERS[number])
        columns.append(column)
        labels.append(names)
    pairs = zip(columns, labels, strict=True)
    sizes = [np.bincount(column, minlength=len(names)) for column, names in pairs]
    links = [
        (number, int(start), int(end), count)
        for number in range(len(columns) - 1)
        for (start, end), count in sorted(
            collections.Counter(zip(columns[number], columns[number + 1], strict=True)).items()
        )
    ]
    named = [list(zip(n, map(int, s), strict=True)) for n, s in zip(labels, sizes, strict=True)]
    heads = ["category", *(f"level {number}" for number in range(1, len(columns)))]
    return Flow(f"figure3-{run.name}", label, heads, named, links)


def chosen_categories(paths: list[tuple[str, ...]], wanted: int) -> tuple[np.ndarray, int]:
    """The category of each product at the first level that has so many, or the deepest.

    Returns:
        int [N], numbers of the categories, -1 for none; and the level, from 0.
    """
    depth = max(map(len, paths))
    ids = category_ids(paths, depth)
    enough = (level for level in range(depth) if ids[:, level].max() + 1 >= wanted)
    level = next(enough, depth - 1)
    return ids[:, level], level


def _level(codes: np.ndarray, letter: str) -> tuple[np.ndarray, list[str]]:
    """The node of each product, and the nodes' names: common codes, others, and an ID's end."""
    counts = collections.Counter(codes[codes >= 0].tolist())
    common = [code for code, _ in counts.most_common(CODES)]
    names = [f"{letter}_{code}" for code in common]
    place = {code: number for number, code in enumerate(common)}
    if len(counts) > CODES:
        names.append(f"{len(counts) - CODES} other codes")
    others = len(names) - 1
    if (codes < 0).any():
        names.append("ended")
    ended = len(names) - 1
    column = [place.get(code, others) if code >= 0 else ended for code in codes.tolist()]
    return np.array(column), names
