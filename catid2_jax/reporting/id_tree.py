"""A tree of IDs to look into: prefix, its categories, example titles, counts."""

import collections
from collections.abc import Sequence

import numpy as np

from catid2_jax.docids.table import format_docid
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Block, Node, Prose, Section, Tree
from catid2_jax.reporting.runs import SystemRun

_BRANCHES = (24, 8, 4)  # per level; deeper levels have as many as the last
_TITLES, _CATEGORIES = 3, 2
_CHARACTERS = 200  # of a title


def section(comparison: Comparison) -> Section:
    """The tree of each system that is shown."""
    title = "Tree of document IDs"
    if not comparison.shown:
        return Section(title, [Prose("No system here has document IDs of its own.")])
    blocks: list[Block] = [
        Prose(
            "A prefix, the number of its products and their commonest categories; beneath it the "
            "prefixes that are one code longer, the fullest first, and a few titles."
        )
    ]
    for label, run in comparison.shown:
        blocks += [Prose(label), make_tree(run)]
    return Section(title, blocks)


def make_tree(run: SystemRun) -> Tree:
    """The fullest prefixes of a system's IDs."""
    rows = np.arange(len(run.catalog))
    roots, left_out = _children(run, rows, [])
    return Tree(roots, left_out)


def _children(run: SystemRun, rows: np.ndarray, prefix: Sequence[int]) -> tuple[list[Node], str]:
    """The nodes one level below a prefix, and what of them is not shown."""
    level = len(prefix)
    column = run.table.codes[rows, level]
    codes, counts = np.unique(column[column >= 0], return_counts=True)
    most = _BRANCHES[min(level, len(_BRANCHES) - 1)]
    kept = np.lexsort((codes, -counts))[:most]
    nodes = [_node(run, rows[column == codes[n]], [*prefix, int(codes[n])]) for n in kept]
    hidden = len(codes) - len(kept)
    products = int(counts.sum() - counts[kept].sum())
    left_out = f"{hidden:,} more prefixes with {products:,} products" if hidden else ""
    return nodes, left_out


def _node(run: SystemRun, rows: np.ndarray, prefix: list[int]) -> Node:
    paths, titles = run.catalog.paths, run.catalog.titles
    counts = collections.Counter(paths[row] for row in rows)
    common = counts.most_common(_CATEGORIES)
    about = "; ".join(f"{' > '.join(path)} ({count:,})" for path, count in common)
    if len(counts) > _CATEGORIES:
        about += f"; {len(counts) - _CATEGORIES:,} more"
    number = "1 product" if len(rows) == 1 else f"{len(rows):,} products"
    leaves = [titles[row][:_CHARACTERS] for row in rows[:_TITLES]]
    deeper = len(rows) > 1 and len(prefix) < run.table.levels
    children, left_out = _children(run, rows, prefix) if deeper else ([], "")
    return Node(format_docid(prefix), f"{number}: {about}", children, leaves, left_out)
