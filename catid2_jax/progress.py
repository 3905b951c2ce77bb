"""Progress of long tasks: a bar on a terminal, a line every ten seconds in a log."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

import rich.progress
from rich.console import Console

console = Console(highlight=False, soft_wrap=True)
"""The console on which the package prints to its user."""

_LINE_EVERY = 10.0  # seconds between lines when the output is not a terminal

Item = TypeVar("Item")


class Progress:
    """Context manager that shows how much of a task is done and how long the rest will take.

    Args:
        description: the task in a word or two.
        total: number of units in the whole task.
        done: number of units finished earlier, as when a training run is resumed.
    """

    def __init__(self, description: str, total: int, done: int = 0) -> None:
        self._description, self._total = description, total
        self._done = self._first = done
        self._values = ""
        self._shown = -1  # units of the last line
        self._start = self._last_line = time.monotonic()
        self._warm = (self._start, done)  # when the first units were done: later ones are quicker
        self._bar: rich.progress.Progress | None = None
        if console.is_terminal:
            self._bar = rich.progress.Progress(
                "{task.description}",
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TimeElapsedColumn(),
                "left",
                rich.progress.TimeRemainingColumn(),
                "{task.fields[values]}",
                console=console,
            )
            self._task = self._bar.add_task(description, total=total, completed=done, values="")

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None and self._shown != self._done:
            self._line()

    def advance(self, units: int, values: Mapping[str, float] | None = None) -> None:
        """Counts `units` as finished and shows `values`, such as losses, beside the count."""
        if self._done == self._first:
            self._warm = (time.monotonic(), self._done + units)
        self._done += units
        if values:
            self._values = " ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self._bar:
            self._bar.update(self._task, advance=units, values=self._values)
        elif time.monotonic() - self._last_line >= _LINE_EVERY:
            self._line()

    def _line(self) -> None:
        self._last_line, self._shown = time.monotonic(), self._done
        elapsed = self._last_line - self._start
        since, done = self._warm
        new = self._done - done
        left = (self._last_line - since) / new * (self._total - self._done) if new else 0.0
        remaining = f", {left:.0f} s left" if left > 0 else ""
        console.print(
            f"{self._description}: {self._done}/{self._total}, {elapsed:.0f} s{remaining}"
            f"  {self._values}".rstrip()
        )


def track(items: Sequence[Item] | Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yields `items` and shows how many of `total` have been processed."""
    with Progress(description, total) as progress:
        for item in items:
            yield item
            progress.advance(1)
