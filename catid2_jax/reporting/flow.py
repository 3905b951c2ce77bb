"""Figure 3: how the products of the largest categories flow through the codes of each level."""

import collections
from collections.abc import Sequence

import numpy as np

from catid2_jax.data.category_tree import category_ids
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Charts, Flow, Prose, Section
from catid2_jax.reporting.runs import SystemRun

CATEGORIES = 10
"""Categories that are drawn."""


def section(comparison: Comparison) -> Section:
    """A diagram per system that is shown."""
    charts = [
        make_flow(run, label, f"figure3-{number}")
        for number, (label, run) in enumerate(comparison.shown)
    ]
    title = "From categories to codes (Figure 3)"
    if not charts:
        return Section(title, [Prose("No system here has document IDs of its own.")])
    about = (
        f"All products of the {CATEGORIES} largest categories of the first level that has as many, "
        "or of the deepest. Each level's codes stand together by the category that most of their "
        "products are of; a node's height is its number of products, a band's width those that "
        "two nodes share, its colour their category. Heads say how many products have a code that "
        "is mostly their own category's: the more, the more a level says of categories."
    )
    return Section(title, [Prose(about), Charts(charts)])


def make_flow(run: SystemRun, label: str, name: str) -> Flow:
    """The products of the largest categories through the codes of a system's IDs."""
    paths = run.catalog.paths
    nodes, level = chosen_categories(paths, CATEGORIES)
    counts = collections.Counter(nodes[nodes >= 0].tolist())
    largest = [node for node, _ in counts.most_common(CATEGORIES)]
    members = np.flatnonzero(np.isin(nodes, largest))
    place = {node: number for number, node in enumerate(largest)}
    found = {place[int(nodes[row])]: paths[row][: level + 1] for row in members[::-1]}
    names = short_names([found[number] for number in range(len(largest))])
    origin = np.array([place[int(node)] for node in nodes[members]])
    columns, heads = [origin], ["category"]
    labels = [names]
    for number, codes in enumerate(run.table.codes[members].T, 1):
        column, owned = code_owners(codes, origin, len(largest))
        columns.append(column)
        labels.append([f"{count:,} codes" if count != 1 else "1 code" for count in owned])
        labels[-1].append("ended before")
        reached = codes >= 0
        share = (column == origin)[reached].mean() if reached.any() else 0.0
        heads.append(f"level {number}: {100 * share:.0f} %")
    return _flow(name, label, heads, columns, labels)


def code_owners(
    codes: np.ndarray, origin: np.ndarray, categories: int
) -> tuple[np.ndarray, list[int]]:
    """The category that most products of each product's code are of.

    Args:
        codes: int [n], codes of one level; -1 where an ID has ended.
        origin: int [n], the category of each product, below `categories`.
        categories: number of categories.

    Returns:
        int [n], the category of the code, `categories` for none; and each category's codes.
    """
    known, numbers = np.unique(codes, return_inverse=True)
    table = np.zeros((len(known), categories), np.int64)
    np.add.at(table, (numbers, origin), 1)
    owners = np.where(known >= 0, table.argmax(axis=1), categories)
    return owners[numbers], np.bincount(owners[known >= 0], minlength=categories).tolist()


def _flow(
    name: str,
    title: str,
    heads: Sequence[str],
    columns: Sequence[np.ndarray],
    labels: Sequence[Sequence[str]],
) -> Flow:
    """Counts the nodes and the links of columns of nodes; nodes without products are left out."""
    nodes, places = [], []
    for column, names in zip(columns, labels, strict=True):
        sizes = np.bincount(column, minlength=len(names))
        kept = np.flatnonzero(sizes)
        nodes.append([(names[n], int(sizes[n])) for n in kept.tolist()])
        places.append(np.searchsorted(kept, column))
    links = [
        (number, int(start), int(end), count, int(of))
        for number in range(len(columns) - 1)
        for (start, of, end), count in sorted(
            collections.Counter(
                zip(places[number], columns[0], places[number + 1], strict=True)
            ).items()
        )
    ]
    return Flow(name, title, heads, nodes, links)


def short_names(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The last name of each path and, in brackets, those above it that tell it from the others.

    Args:
        paths: distinct category paths, root first.
    """
    ends = [[path[start:] for start in reversed(range(len(path)))] for path in paths]
    count = collections.Counter(end for each in ends for end in each)
    chosen = (next((end for end in each if count[end] == 1), each[-1]) for each in ends)
    return [name if not above else f"{name} ({' > '.join(above)})" for *above, name in chosen]


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
