"""The Recall table: all systems with intervals, and paired tests against the first."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from catid2_jax.evaluation.significance import Bootstrap, bootstrap_all, holm
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.measures import NDCG, measured
from catid2_jax.reporting.page import Bars, Block, Charts, Prose, Section, Table

_TESTED = ("recall@10", "recall@100", NDCG)
_MANY_QUERIES, _RESAMPLES, _FEWER = 3000, 10_000, 2_000

Values = Mapping[str, Mapping[str, np.ndarray]]
"""Label of a row -> measure -> a value in % of each seed and query, [S, Q]."""


def section(comparison: Comparison) -> Section:
    """What the rankings of the test queries are worth."""
    if not comparison.rows:
        return Section("Retrieval", [Prose("No system has ranked products for the test queries.")])
    values = {row.label: measured(row) for row in comparison.rows}
    queries = len(comparison.main.relevant)
    resamples = _FEWER if queries > _MANY_QUERIES else _RESAMPLES
    names = list(dict.fromkeys(name for found in values.values() for name in found))
    intervals = means(values, resamples)
    rows = []
    for row in comparison.rows:
        cells = (_interval(intervals.get((row.label, name))) for name in names)
        rows.append((row.label, str(len(row.seeds)), *cells))
    cutoffs = [name for name in names if name.startswith("recall@")]
    blocks: list[Block] = [
        Prose(
            f"{queries:,} test queries with a relevant product. Intervals hold 95 % of "
            f"{resamples:,} resamples of the queries and seeds. nDCG takes the grades as gains; "
            "MRR and AP, like Recall, count what is relevant. All in %."
        ),
        Table(
            "What each system finds, in %: mean and 95 % interval",
            ("", "seeds", *(name.replace("recall@", "R@") for name in names)),
            rows,
        ),
    ]
    if cutoffs:
        bars = {label: [_bar(intervals.get((label, name))) for name in cutoffs] for label in values}
        heads = [name.replace("recall@", "@") for name in cutoffs]
        title = "Recall@k in %, with 95 % intervals"
        blocks.insert(1, Charts([Bars("recall", title, "Recall, %", heads, bars)]))
    if len(values) > 1:
        seeded = {row.label for row in comparison.rows if row.seeds[0].is_seeded}
        blocks.append(_tests(values, seeded, resamples))
    return Section("Retrieval", blocks)


def means(values: Values, resamples: int) -> dict[tuple[str, str], Bootstrap]:
    """(label, measure) -> mean and interval over queries and seeds."""
    pairs = {(label, name): v for label, found in values.items() for name, v in found.items()}
    return _bootstrap(pairs, resamples)


def differences(
    values: Values, seeded: Collection[str], resamples: int, tested: Sequence[str] = _TESTED
) -> list[tuple[str, str, Bootstrap, float]]:
    """Tests the first row against each other, over the queries and the seeds that both have.

    A system that does not depend on the seed stands for each of the other's.

    Args:
        values: of two rows or more.
        seeded: labels of those that depend on the seed.
        resamples: number of resamples.
        tested: the measures, as far as both have them.

    Returns:
        (label, measure, the first less the other, p-value adjusted by Holm for all of these).
    """
    (first, reference), *others = values.items()
    pairs = {}
    for label, found in others:
        for name in tested:
            if name in reference and name in found:
                both = {first: reference[name], label: found[name]}
                count = min((len(both[row]) for row in both if row in seeded), default=1)
                pairs[label, name] = both[first][:count] - both[label][:count]
    tests = _bootstrap(pairs, resamples)
    adjusted = holm([test.p_value for test in tests.values()])
    return [
        (label, name, test, p_value)
        for ((label, name), test), p_value in zip(tests.items(), adjusted, strict=True)
    ]


def _bootstrap(
    values: Mapping[tuple[str, str], np.ndarray], resamples: int
) -> dict[tuple[str, str], Bootstrap]:
    """Resamples figures of as many seeds with the same draws."""
    found: dict[tuple[str, str], Bootstrap] = {}
    for seeds in {len(array) for array in values.values()}:
        keys = [key for key, array in values.items() if len(array) == seeds]
        results = bootstrap_all(np.stack([values[key] for key in keys]), resamples)
        found |= dict(zip(keys, results, strict=True))
    return {key: found[key] for key in values}


def _tests(values: Values, seeded: Collection[str], resamples: int) -> Table:
    tests = differences(values, seeded, resamples)
    first = next(iter(values))
    names = list(dict.fromkeys(name for _, name, _, _ in tests))
    rows = []
    for label in list(values)[1:]:
        of_row = {name: (test, p_value) for row, name, test, p_value in tests if row == label}
        cells = [text for name in names for text in _test_cells(of_row.get(name))]
        rows.append((label, *cells))
    columns = [head for name in names for head in (name.replace("recall@", "R@"), "p")]
    title = (
        f"{first} less each other system, in points, with 95 % intervals and p-values, which are "
        f"adjusted for the {len(tests)} comparisons (Holm)"
    )
    return Table(title, ("", *columns), rows)


def _test_cells(found: tuple[Bootstrap, float] | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    test, p_value = found
    interval = f"{test.mean:+.1f} [{test.low:+.1f}, {test.high:+.1f}]"
    return interval, "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _interval(found: Bootstrap | None) -> str:
    return "" if found is None else f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]"


def _bar(found: Bootstrap | None) -> tuple[float, float, float]:
    nothing = float("nan")
    return (nothing,) * 3 if found is None else (found.mean, found.low, found.high)
