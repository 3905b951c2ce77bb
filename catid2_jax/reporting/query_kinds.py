"""Recall by kind of query, by category and by depth."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from catid2_jax.evaluation.significance import bootstrap_all
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.leakage import normal_form
from catid2_jax.reporting.measures import main_cutoff, measured
from catid2_jax.reporting.page import Bars, Block, Charts, Prose, Section, Table
from catid2_jax.reporting.runs import Directory

T = TypeVar("T", str, int)

_CATEGORIES = 12
_RESAMPLES = 2000
_DRAWN = 8  # systems; the table has all

Kinds = Mapping[str, np.ndarray]
"""Name of a kind -> numbers of its queries among `directory.relevant`."""


def section(comparison: Comparison) -> Section | None:
    """Recall of each system for each kind of query; None where nothing was ranked."""
    values = {row.label: measured(row) for row in comparison.rows}
    cutoffs = [
        k
        for k in comparison.main.evaluate.cutoffs
        if all(f"recall@{k}" in found for found in values.values())
    ]
    if not values or not cutoffs:
        return None
    k = main_cutoff(cutoffs)
    recall = {label: found[f"recall@{k}"] for label, found in values.items()}
    directory = comparison.main
    blocks: list[Block] = [
        Prose(
            "Head, torso and tail are thirds of the test queries by how many training pairs "
            "their relevant products have, tail the fewest. Ambiguous queries have relevant "
            "products in several categories of the first level. A word is unseen where no "
            "training query has it. Intervals hold 95 % of the resamples; where queries are few, "
            "they are wide."
        )
    ]
    for number, (title, kinds) in enumerate(
        (
            ("by kind of query", query_kinds(directory)),
            (f"by category, the {_CATEGORIES} of most queries", by_category(directory)),
            ("by depth of the category", by_depth(directory)),
        )
    ):
        kinds = {name: queries for name, queries in kinds.items() if queries.size}
        if kinds:
            blocks += _blocks(f"kinds-{number}", f"Recall@{k} in % {title}", kinds, recall)
    return Section("Recall by kind of query", blocks)


def _blocks(name: str, title: str, kinds: Kinds, recall: Mapping[str, np.ndarray]) -> list[Block]:
    bars: dict[str, list[tuple[float, float, float]]] = {label: [] for label in recall}
    rows = []
    for kind, queries in kinds.items():
        cells = []
        for label, values in recall.items():
            (found,) = bootstrap_all(values[None][:, :, queries], _RESAMPLES)
            bars[label].append((found.mean, found.low, found.high))
            cells.append(f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]")
        rows.append((kind, f"{len(queries):,}", *cells))
    table = Table(title, ("", "queries", *recall), rows, folded=len(kinds) > 1)
    drawn = dict(list(bars.items())[:_DRAWN])
    more = f"; the first {_DRAWN} of {len(bars)} systems, all are below" * (len(bars) > _DRAWN)
    chart = Bars(name, f"{title}{more}", "Recall, %", list(kinds), drawn)
    return [Charts([chart]), table] if len(kinds) > 1 else [table]


def query_kinds(directory: Directory) -> Kinds:
    """Head, torso and tail; ambiguous or not; with words unseen in training or not."""
    kinds: dict[str, np.ndarray] = {}
    queries = list(directory.relevant)
    if "train" in directory.queries:
        pairs = collections.Counter(
            product for judged in directory.qrels["train"].values() for product in judged
        )
        counts = [sum(pairs[product] for product in directory.relevant[q]) for q in queries]
        thirds = np.array_split(np.argsort(np.negative(counts), kind="stable"), 3)
        names = ("head", "torso", "tail")
        kinds |= {name: np.sort(third) for name, third in zip(names, thirds, strict=True)}
    roots = [{path[0] for path in _paths(directory, query)} for query in queries]
    kinds["ambiguous"] = _where(len(found) > 1 for found in roots)
    kinds["of one category"] = _where(len(found) <= 1 for found in roots)
    if "train" in directory.queries:
        known = {word for text in directory.queries["train"].values() for word in _words(text)}
        unseen = [not known.issuperset(_words(directory.queries["test"][q])) for q in queries]
        kinds["with unseen words"] = _where(unseen)
        kinds["all words seen"] = _where(not found for found in unseen)
    return kinds


def by_category(directory: Directory) -> Kinds:
    """Queries by the first-level category of most of their relevant products."""
    names = [_commonest([p[0] for p in _paths(directory, q)]) for q in directory.relevant]
    largest = collections.Counter(filter(None, names)).most_common(_CATEGORIES)
    return {str(name): _where(found == name for found in names) for name, _ in largest}


def by_depth(directory: Directory) -> Kinds:
    """Queries by the commonest number of categories of their relevant products."""
    depths = [_commonest([len(p) for p in _paths(directory, q)]) for q in directory.relevant]
    found = sorted({depth for depth in depths if depth is not None})
    return {f"{depth} categories": _where(d == depth for d in depths) for depth in found}


def _paths(directory: Directory, query: str) -> list[tuple[str, ...]]:
    """Category paths of a query's relevant products."""
    catalog = directory.catalog
    rows = (catalog.rows.get(product) for product in directory.relevant[query])
    return [catalog.paths[row] for row in rows if row is not None]


def _commonest(values: Sequence[T]) -> T | None:
    return collections.Counter(values).most_common(1)[0][0] if values else None


def _words(text: str) -> set[str]:
    return set(normal_form(text).split())


def _where(holds: Iterable[bool]) -> np.ndarray:
    return np.flatnonzero(np.fromiter(holds, bool))
