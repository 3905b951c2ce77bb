"""Time and memory of each step (Table 7)."""

from collections.abc import Iterator, Mapping

from catid2_jax.records import Record
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Bars, Charts, Section, Table

_ORDER = (
    *("prepare", "embed", "docids", "vocabulary", "train_seq2seq", "train_towers"),
    *("retrieve", "evaluate"),
)


def section(comparison: Comparison) -> Section:
    """When each step was done, how long it took and how much memory it held."""
    found = list(_steps(comparison))
    rows = [
        (owner, step, record.finished, f"{record.seconds or 0:,.1f}", _gibibytes(record.memory))
        for owner, records in found
        for step, record in records
    ]
    columns = ("", "step", "done", "seconds", "memory, GiB")
    title = "Time, and the most resident memory of the process while a step ran"
    groups = [owner for owner, _ in found]
    steps = [step for step in _ORDER if any(step in dict(records) for _, records in found)]
    seconds = {step: [_bar(dict(records).get(step)) for _, records in found] for step in steps}
    chart = Bars("seconds", "Seconds by step", "seconds", groups, seconds, True)
    return Section("Time and memory", [Charts([chart]), Table(title, columns, rows, texts=(1, 2))])


def _steps(comparison: Comparison) -> Iterator[tuple[str, list[tuple[str, Record]]]]:
    """Whose steps, and the steps in their order with their records."""
    for directory in comparison.directories:
        yield f"all systems of {directory.name}", _in_order(directory.records)
        for run in directory.systems:
            yield comparison.label(run), _in_order(run.records)


def _in_order(records: Mapping[str, Record]) -> list[tuple[str, Record]]:
    return sorted(records.items(), key=lambda item: _ORDER.index(item[0]))


def _bar(record: Record | None) -> tuple[float, float, float]:
    value = (record.seconds or 0.0) if record else 0.0
    return value, value, value


def _gibibytes(memory: int) -> str:
    return f"{memory / 2**30:.2f}" if memory else "not recorded"
