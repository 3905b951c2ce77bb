"""A table of the paper with our figures: as Markdown, as LaTeX and as comma-separated values."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from catid2_jax.evaluation.significance import Bootstrap, bootstrap, holm
from catid2_jax.reproduction.grids import PAPER_HOURS, Grid
from catid2_jax.reproduction.runs import STEPS, Measured

_STEP_NAMES = {
    "docids": "IDs",
    "train_seq2seq": "network",
    "train_towers": "towers",
    "retrieve": "search",
}
_COLUMNS = (
    *("data", "system", "measure", "mean", "standard_deviation", "seeds", "paper"),
    *("difference", "low", "high", "p_value", "p_value_adjusted"),
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: what stands above it.
        columns: the heads; the first column names the rows.
        rows: the cells.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Difference:
    """The reference less a system at Recall@k, over the seeds and queries that both have.

    Attributes:
        system: the system.
        k: the cutoff.
        found: mean, interval and p-value, in points of percent.
        adjusted: the p-value, adjusted for the number of all tests of the table.
    """

    system: str
    k: int
    found: Bootstrap
    adjusted: float


def differences(grid: Grid, rows: Sequence[Measured]) -> list[Difference]:
    """The reference of a table against each other system, paired by query and by seed.

    What does not depend on the seed stands for every seed.

    Args:
        grid: the table.
        rows: what its systems did, on one set of data.
    """
    reference = next((row for row in rows if row.system == grid.reference), None)
    if reference is None:
        return []
    tested = [(row, k) for row in rows for k in grid.tested if row is not reference]
    tested = [(row, k) for row, k in tested if k in row.recall]
    found = [bootstrap(_less(reference, row, k)) for row, k in tested]
    adjusted = holm([test.p_value for test in found])
    return [
        Difference(row.system, k, test, p_value)
        for (row, k), test, p_value in zip(tested, found, adjusted, strict=True)
    ]


def tables(data: str, grid: Grid, rows: Sequence[Measured]) -> list[Table]:
    """Recall beside the paper's, the tests, and time and memory.

    Args:
        data: name of the set.
        grid: the table.
        rows: what its systems did.
    """
    found = [
        _recall_table(data, grid, rows),
        _test_table(data, grid, rows),
        _time_table(data, rows),
    ]
    late = [f"{row.label} {row.seeds} of {row.wanted}" for row in rows if row.seeds < row.wanted]
    note = f" (seeds so far: {', '.join(late)})" if late else ""
    return [dataclasses.replace(t, title=f"{t.title}{note}") for t in found if len(t.columns) > 1]


def paper_set(data: str) -> str:
    """The set of the paper whose figures stand beside those of a set: "es", "jp", or else "us"."""
    parts = data.lower().replace("-", "_").split("_")
    return next((name for name in ("es", "jp") if name in parts), "us")


def _recall_table(data: str, grid: Grid, rows: Sequence[Measured]) -> Table:
    of = paper_set(data)
    cutoffs = [k for k in grid.cutoffs if any(k in row.recall for row in rows)]
    told = {k for row in rows for k in row.paper.get(of, {})}
    columns, cells = [""], [[row.label] for row in rows]
    for k in cutoffs:
        columns += [f"R@{k}", *(["paper"] if k in told else [])]
        for row, line in zip(rows, cells, strict=True):
            line.append(_spread(row.recall[k].mean(axis=1)))
            if k in told:
                paper = row.paper.get(of, {}).get(k)
                line.append("" if paper is None else f"{paper:.2f}")
    queries = next((len(values[0]) for row in rows for values in row.recall.values()), 0)
    title = (
        f"{grid.name}, {grid.title}: Recall@k in % on {data}, {queries} test queries, mean ± "
        f"standard deviation over seeds; paper: ESCI-{of}"
    )
    return Table(title, tuple(columns), tuple(map(tuple, cells)))


def _test_table(data: str, grid: Grid, rows: Sequence[Measured]) -> Table:
    found = {(test.system, test.k): test for test in differences(grid, rows)}
    cutoffs = sorted({k for _, k in found})
    lines = []
    for row in rows:
        cells = [row.label]
        for k in cutoffs:
            test = found.get((row.system, k))
            cells += ["", ""] if test is None else [_interval(test.found), _p_value(test.adjusted)]
        lines.append(tuple(cells))
    columns = [""] + [name for k in cutoffs for name in (f"R@{k}", "p")]
    label = next((row.label for row in rows if row.system == grid.reference), "")
    title = (
        f"{grid.name}: {label} less each system on {data}, in points, with 95 % intervals over "
        f"queries and seeds and p-values adjusted for their number (Holm)"
    )
    return Table(title, tuple(columns), tuple(line for line in lines if any(line[1:])))


def _time_table(data: str, rows: Sequence[Measured]) -> Table:
    steps = [step for step in STEPS if any(step in row.seconds for row in rows)]
    told = any(row.system in PAPER_HOURS for row in rows)
    lines = []
    for row in rows:
        training = [row.seconds[step] for step in steps[:-1] if step in row.seconds]
        cells = [row.label, *(_number(row.seconds.get(step)) for step in steps)]
        cells.append(_number(sum(training) / 3600 if training else None, "{:.2f}"))
        most = max(row.memory.values(), default=0)
        cells.append(_number(most / 2**30 if most else None, "{:.1f}"))
        lines.append((*cells, *([PAPER_HOURS.get(row.system, "")] if told else [])))
    columns = ["", *(f"{_STEP_NAMES[step]}, s" for step in steps), "training, h", "memory, GiB"]
    title = f"time and memory on {data}: mean over seeds, most resident memory of the process"
    paper = ["paper, h (A100)"] if told else []
    return Table(title, (*columns, *paper), tuple(lines))


def to_markdown(found: Iterable[Table]) -> str:
    """Pipe tables, each below its title."""
    blocks = []
    for table in found:
        lines = [table.columns, ("---",) * len(table.columns), *table.rows]
        blocks.append("\n".join([f"{table.title}\n", *(f"| {' | '.join(r)} |" for r in lines)]))
    return "\n\n".join(blocks) + "\n"


def to_latex(found: Iterable[Table]) -> str:
    """Environments `table` with the rules of the package booktabs."""
    blocks = []
    for table in found:
        head, *body = (
            " & ".join(map(_escaped, row)) + r" \\" for row in (table.columns, *table.rows)
        )
        blocks.append(
            "\n".join(
                [
                    r"\begin{table}",
                    rf"\caption{{{_escaped(table.title)}}}",
                    rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
                    *(r"\toprule", head, r"\midrule", *body, r"\bottomrule"),
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(blocks) + "\n"


def to_csv(grid: Grid, sets: Mapping[str, Sequence[Measured]]) -> str:
    """A line for each set, system and measure, with the paper's figure and the test."""
    output = io.StringIO()
    writer = csv.DictWriter(output, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for data, rows in sets.items():
        tests = {(test.system, test.k): test for test in differences(grid, rows)}
        for row in rows:
            shared = {"data": data, "system": row.system, "seeds": row.seeds}
            for k, values in row.recall.items():
                means = values.mean(axis=1)
                line = {"measure": f"recall@{k}", "mean": means.mean()}
                line["standard_deviation"] = means.std(ddof=1) if row.seeds > 1 else ""
                line["paper"] = row.paper.get(paper_set(data), {}).get(k, "")
                writer.writerow(shared | line | _test_fields(tests.get((row.system, k))))
            for step, seconds in row.seconds.items():
                writer.writerow(shared | {"measure": f"seconds/{step}", "mean": seconds})
                writer.writerow(shared | {"measure": f"bytes/{step}", "mean": row.memory[step]})
    return output.getvalue()


def _test_fields(test: Difference | None) -> dict[str, float]:
    if test is None:
        return {}
    found = test.found
    return {
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "p_value_adjusted": test.adjusted,
    }


def _less(reference: Measured, other: Measured, k: int) -> np.ndarray:
    """Differences of two systems by seed and query, [S, Q], for the seeds that both have."""
    count = min((row.seeds for row in (reference, other) if row.wanted > 1), default=1)
    return reference.recall[k][:count] - other.recall[k][:count]


def _spread(means: np.ndarray) -> str:
    """`mean ± standard deviation` over seeds, or the value where there is one."""
    deviation = f" ± {means.std(ddof=1):.1f}" if len(means) > 1 else ""
    return f"{means.mean():.1f}{deviation}"


def _interval(found: Bootstrap) -> str:
    return f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _number(value: float | None, form: str = "{:.0f}") -> str:
    return "" if value is None else form.format(value)


def _escaped(text: str) -> str:
    """Text as LaTeX has it."""
    text = "".join(f"\\{c}" if c in "&%$#_{}" else c for c in text)
    return text.replace("±", r"$\pm$").replace("<", "$<$")
