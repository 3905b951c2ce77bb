"""All that a report is about, chosen once for all of its sections."""

import dataclasses
import pathlib
from collections.abc import Sequence

from catid2_jax.errors import InputError
from catid2_jax.reporting.config import ReportConfig
from catid2_jax.reporting.runs import (
    Directory,
    Row,
    SystemRun,
    check_same_queries,
    first_seeds,
    make_rows,
    open_directory,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """What a report is about.

    Attributes:
        directories: the work directory and those that it is compared with.
        config: what is shown.
        rows: the systems with rankings of the test queries.
        shown: the systems with IDs that stand side by side, each with its label.
    """

    directories: Sequence[Directory]
    config: ReportConfig
    rows: Sequence[Row]
    shown: Sequence[tuple[str, SystemRun]]

    @property
    def main(self) -> Directory:
        """The work directory itself."""
        return self.directories[0]

    def label(self, run: SystemRun) -> str:
        """What a run is called, its seed and its directory included where there are several."""
        directory = next(d for d in self.directories if run in d.systems)
        seed = run.name.removeprefix(run.plain_name)
        label = f"{run.label} {seed}".strip()
        same = {other.plain_name for other in directory.systems if other.label == run.label}
        if len(same) > 1:
            label = f"{label} ({run.plain_name})"
        return f"{label}, {directory.name}" if len(self.directories) > 1 else label


def compare(paths: Sequence[pathlib.Path], config: ReportConfig) -> Comparison:
    """Opens work directories that have the same test queries.

    Args:
        paths: the work directory, and those that it is compared with.
        config: what is shown.

    Raises:
        InputError: one cannot be read, two have different test queries, or a system that is asked
            for is not there.
    """
    names = [path.resolve().name for path in paths]
    unique = len(set(names)) == len(names)
    directories = [
        open_directory(path, name if unique else str(path))
        for path, name in zip(paths, names, strict=True)
    ]
    for other in directories[1:]:
        check_same_queries(directories[0], other)
    comparison = Comparison(directories, config, make_rows(directories), ())
    shown = [(comparison.label(run), run) for run in _shown(directories, config.systems)]
    return dataclasses.replace(comparison, shown=shown)


def _shown(directories: Sequence[Directory], wanted: str) -> list[SystemRun]:
    """The systems that are asked for, or the first two with IDs, each with its first seed."""
    known = [run for directory in directories for run in directory.systems if run.has_docids]
    if wanted:
        names = [name.strip() for name in wanted.split(",")]
        found = [next((run for run in known if run.name == name), None) for name in names]
        if None in found:
            missing = names[found.index(None)]
            there = ", ".join(dict.fromkeys(run.name for run in known)) or "none"
            raise InputError("systems", repr(missing), f"some with IDs: {there}")
        return [run for run in found if run is not None]
    return first_seeds(known)[:2]
