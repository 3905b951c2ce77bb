"""Queries that one system wins over another, and the level of the ID at which products are lost."""

from collections.abc import Sequence

import numpy as np

from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.measures import main_cutoff, measure
from catid2_jax.reporting.page import Bars, Block, Charts, Prose, Section, Table
from catid2_jax.reporting.runs import Directory, Row, SystemRun

_EXAMPLES = 12


def section(comparison: Comparison) -> Section | None:
    """Wins and losses of the first system, and where its own and others' IDs lose products.

    None where nothing was ranked.
    """
    rows = comparison.rows
    cutoffs = [k for k in comparison.main.evaluate.cutoffs if all(_has(row, k) for row in rows)]
    if not rows or not cutoffs:
        return None
    k = main_cutoff(cutoffs)
    blocks: list[Block] = []
    if len(rows) > 1:
        blocks += _won_and_lost(comparison, k)
    with_ids = [row for row in rows if row.seeds[0].place.docids.exists()]
    if with_ids:
        blocks += _levels(with_ids, k)
    return Section("Queries won and lost", blocks) if blocks else None


def _has(row: Row, k: int) -> bool:
    return all(f"recall@{k}" in measure(run, row.directory) for run in row.seeds)


def _recall(row: Row, k: int) -> np.ndarray:
    """Recall@k in % of each query with the first seed, [Q]."""
    return measure(row.seeds[0], row.directory)[f"recall@{k}"]


def _won_and_lost(comparison: Comparison, k: int) -> list[Block]:
    first, *others = comparison.rows
    mine = _recall(first, k)
    counts = []
    for row in others:
        less = mine - _recall(row, k)
        numbers = [np.sum(less > 0), np.sum(less == 0), np.sum(less < 0)]
        counts.append((row.label, *(f"{number:,}" for number in numbers)))
    title = f"Queries for which {first.label} has a higher, the same, a lower Recall@{k}"
    blocks: list[Block] = [Table(title, ("against", "won", "even", "lost"), counts)]
    other = others[0]
    theirs = _recall(other, k)
    order = np.argsort(mine - theirs, kind="stable")
    won = [n for n in order[::-1][:_EXAMPLES] if mine[n] > theirs[n]]
    lost = [n for n in order[:_EXAMPLES] if mine[n] < theirs[n]]
    for numbers, what in ((won, "won over"), (lost, "lost to")):
        if numbers:
            title = f"Queries most clearly {what} {other.label}, Recall@{k} in %"
            blocks.append(_examples(title, comparison, numbers, (mine, theirs), (first, other)))
    return blocks


def _examples(
    title: str,
    comparison: Comparison,
    numbers: Sequence[int],
    values: Sequence[np.ndarray],
    rows: Sequence[Row],
) -> Table:
    main = comparison.main
    queries = list(main.relevant)
    lines = []
    for number in numbers:
        query = queries[number]
        relevant = list(main.relevant[query])
        known = [product for product in relevant if product in main.catalog.rows]
        example = main.catalog.titles[main.catalog.rows[known[0]]] if known else ""
        recall = (f"{found[number]:.0f}" for found in values)
        text = main.queries["test"][query]
        lines.append((text, *recall, str(len(relevant)), example))
    columns = ("query", *(row.label for row in rows), "relevant", "one of the relevant products")
    return Table(title, columns, lines, texts=(len(columns) - 1,), folded=True)


def _levels(rows: Sequence[Row], k: int) -> list[Block]:
    shares = {row.label: lost_levels(row.seeds[0], row.directory, k) for row in rows}
    depth = max(map(len, shares.values()))
    groups = [f"level {level}" for level in range(1, depth + 1)]
    bars = {
        label: [(100 * v, 100 * v, 100 * v) for v in _padded(found, depth)]
        for label, found in shares.items()
    }
    about = (
        f"A relevant product outside the first {k} was lost at the first level at which no ID of "
        f"these {k} goes on as its own does: at level 1, none starts with its first code. Shares "
        "are of all relevant products; what is missing to 100 % was found. Rankings tell no more: "
        "a search may have left a prefix earlier or later."
    )
    title = f"Relevant products that are not among the first {k}, in %, by level"
    chart = Bars("lost-levels", title, "share, %", groups, bars)
    return [Prose(about), Charts([chart])]


def _padded(values: np.ndarray, length: int) -> list[float]:
    return [*values.tolist(), *([0.0] * (length - len(values)))]


def lost_levels(run: SystemRun, directory: Directory, k: int) -> np.ndarray:
    """Shares of the relevant products that were lost at each level of the ID.

    Args:
        run: a system that searches IDs.
        directory: its work directory.
        k: how many products of a ranking count.

    Returns:
        [L]; a product that is not found has lost an ID of its own, so that its level is at most L.
    """
    codes, rows = run.table.codes, run.catalog.rows
    lost, total = np.zeros(codes.shape[1]), 0
    for query, products in directory.relevant.items():
        found = [product for product, _ in run.ranking.get(query, ())[:k]]
        missed = [rows[product] for product in products if product not in found]
        total += len(products)
        if not missed:
            continue
        ids = codes[[rows[product] for product in found]]
        equal = codes[missed][:, None] == ids[None]
        shared = np.cumprod(equal, axis=2).sum(axis=2).max(axis=1, initial=0)
        lost += np.bincount(np.minimum(shared, codes.shape[1] - 1), minlength=codes.shape[1])
    return lost / max(total, 1)
