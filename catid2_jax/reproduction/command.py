"""One table from the command line to its files."""

import argparse
import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence

from catid2_jax.config import Config
from catid2_jax.constraints import Place, check_local, check_value
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write
from catid2_jax.lock import locked
from catid2_jax.progress import console
from catid2_jax.reproduction.datasets import set_name, with_set
from catid2_jax.reproduction.grids import Grid, find_grid
from catid2_jax.reproduction.report import Table, tables, to_csv, to_latex, to_markdown
from catid2_jax.reproduction.runs import Measured, cutoffs_within, measure, plan_runs, run_all
from catid2_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Flags:
    """What is asked for beside the configuration.

    Attributes:
        grid: the table.
        data: folders of sets; none for the configuration's own data.
        vectors: name of given vectors; empty for none.
        seeds: number of seeds.
    """

    grid: Grid
    data: tuple[str, ...]
    vectors: str
    seeds: int


def read_flags(words: Sequence[str]) -> tuple[Flags, list[str]]:
    """What is asked for, and the words of the command line that are the configuration's.

    Args:
        words: the command line without the program's name.

    Raises:
        InputError: no such table, a system twice, no number of seeds, or a URL for a folder.
    """
    try:
        given, rest = _parser().parse_known_args(words)
    except argparse.ArgumentError as error:
        raise InputError(error.argument_name or "command line", error.message, "a value") from error
    asks_help = any(word in ("-h", "--help") for word in rest)
    if not asks_help and not any(word.partition("=")[0] == "--config" for word in rest):
        rest = ["--config=quickstart", *rest]
    flags = Flags(
        find_grid("table2" if asks_help else given.table, _names(given.systems)),
        _names(given.data),
        given.vectors,
        _count(given.seeds),
    )
    check_value(given.output, Place, "--output")
    for folder in flags.data:
        check_local(folder, "--data")
    if given.vectors and not flags.data:
        raise InputError("--vectors", repr(given.vectors), "it with --data=DIR")
    return flags, [f"--workdir={given.output}", *rest]


def _parser() -> argparse.ArgumentParser:
    """The arguments that other verbs do not have; the others are left for `cli.main`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("table", nargs="?", default="")
    for name, default in (("data", ""), ("vectors", ""), ("seeds", "3"), ("systems", "")):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--output", default="runs/reproduce")
    return parser


def _names(value: str) -> tuple[str, ...]:
    return tuple(filter(None, value.split(",")))


def _count(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise InputError("--seeds", repr(value), "an integer of at least 1")
    return int(value)


def reproduce(flags: Flags, config: Config, workdir: Workdir) -> None:
    """Runs the table on every set, and writes it after each seed."""
    configs = [with_set(config, pathlib.Path(folder), flags.vectors) for folder in flags.data]
    sets = {set_name(found): found for found in configs or [config]}
    if len(sets) < len(configs):
        raise InputError("--data", ",".join(flags.data), "folders of different names")
    runs = {name: plan_runs(flags.grid.systems, own, flags.seeds) for name, own in sets.items()}
    cutoffs = cutoffs_within(config, flags.grid.cutoffs)
    with contextlib.ExitStack() as stack:
        for name in sets:
            stack.enter_context(locked(workdir.root / name))
        found: dict[str, Sequence[Measured]] = {}

        def write(name: str) -> None:
            place = Workdir(workdir.root / name)
            found[name] = measure(runs[name], sets[name], place, cutoffs)
            _write(flags, found, workdir.root)

        for name, own in sets.items():
            place = Workdir(workdir.root / name)
            run_all(runs[name], own, place, functools.partial(write, name))
    console.print(to_markdown(_tables(flags, found)), markup=False)


def _tables(flags: Flags, found: Mapping[str, Sequence[Measured]]) -> list[Table]:
    return [table for data, rows in found.items() for table in tables(data, flags.grid, rows)]


def _write(flags: Flags, found: Mapping[str, Sequence[Measured]], folder: pathlib.Path) -> None:
    """Writes what is done in all three forms, each atomically."""
    grid, all_tables = flags.grid, _tables(flags, found)
    texts = {"md": to_markdown(all_tables), "tex": to_latex(all_tables), "csv": to_csv(grid, found)}
    for suffix, text in texts.items():
        with atomic_write(folder / f"{grid.name}.{suffix}") as file:
            file.write(text)
