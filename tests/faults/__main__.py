"""Breaks a tiny work directory in every way and counts what is lost: python -m tests.faults

Prints the table of docs/reliability.md and, with --write, puts it there. Ends with 1 if anything
was lost. Takes under 30 minutes on two cores.
"""

import argparse
import concurrent.futures
import functools
import os
import pathlib
import random
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

from tests.faults import damage, runs, settings
from tests.faults.kills import SECOND, Kills

PAGE = runs.ROOT / "docs/reliability.md"

Trial = Callable[[], str | None]
"""Returns what was lost; nothing if nothing was; None if there was nothing to try."""

COUNTS = {
    "kills": 24,
    "changes": 12,
    "signals": 12,
    "room": 12,
    "closed": 12,
    "nan": 2,
    "seconds": SECOND + 1,
    "ranges": len(settings.OUT_OF_RANGE),
    "rare": 2,
    "flips": 200,
    "edits": 1000,
}
"""How often each fault is tried at most; a flag each."""


def main() -> None:
    """Runs all trials."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    for name, count in COUNTS.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        rows = _all_rows(pathlib.Path(folder), flags)
    table = _table(rows)
    print(table)
    if flags.write:
        _write(table)
    sys.exit(any(lost for *_, lost in rows))


def _all_rows(folder: pathlib.Path, flags: argparse.Namespace) -> list[tuple[str, int, list[str]]]:
    """Per fault: its name, how often it was tried, what was lost."""
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # compiling takes the time
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
    runs.prepare_processes()
    done = folder / "done"
    made = runs.run("pipeline", runs.on(done), folder / "done.log")
    if made.code != 0:
        raise SystemExit(made.text)
    generator = random.Random(flags.seed)
    with concurrent.futures.ThreadPoolExecutor(flags.workers) as pool:
        rows = []
        for name, trials in _faults(folder, done, flags, generator):
            if not trials:
                continue
            results = [found for found in pool.map(_call, trials) if found is not None]
            lost = [found for found in results if found]
            for line in lost:
                print(f"LOST {name}: {line}", file=sys.stderr, flush=True)
            print(f"{name}: {len(results)} tried, {len(lost)} lost", file=sys.stderr, flush=True)
            rows.append((name, len(results), lost))
    return rows


def _faults(
    folder: pathlib.Path, done: pathlib.Path, flags: argparse.Namespace, generator: random.Random
) -> Iterator[tuple[str, list[Trial]]]:
    """Yields faults by name, with their trials."""
    count = max(flags.kills, flags.changes, flags.signals, flags.room, flags.closed)
    count = max(count, SECOND + 1 if flags.seconds or flags.nan else 0)
    if count:
        yield from _disturbed(Kills(_folder(folder / "kills"), done, count), flags, generator)
    place = _folder(folder / "settings")
    yield (
        "a setting out of its range",
        [functools.partial(settings.try_out_of_range, place, n) for n in range(flags.ranges)],
    )
    yield (
        "a rare setting or query",
        [functools.partial(settings.try_rare, place, done, n) for n in range(flags.rare)],
    )
    if flags.flips or flags.edits:
        yield from _damaged(damage.Damage(_folder(folder / "damage"), done), done, flags, generator)


def _disturbed(
    kills: Kills, flags: argparse.Namespace, generator: random.Random
) -> Iterator[tuple[str, list[Trial]]]:
    """Yields what ends a verb before its time."""

    def at_random(count: int, function: Callable[..., str], *more: object) -> list[Trial]:
        seeds = [generator.random() for _ in range(count)]
        return [
            functools.partial(function, n, random.Random(seed), *more)
            for n, seed in enumerate(seeds)
        ]

    yield (
        "`kill -9` at a random moment of a verb",
        at_random(flags.kills, kills.try_signal, signal.SIGKILL),
    )
    yield (
        "`kill -9` before a random change of a file or folder",
        at_random(flags.changes, kills.try_change),
    )
    yield (
        "SIGTERM or SIGINT at a random moment",
        at_random(flags.signals, kills.try_signal, signal.SIGINT, signal.SIGTERM),
    )
    yield "no room for a file", at_random(flags.room, kills.try_little_room)
    yield "a read-only folder", at_random(flags.closed, kills.try_read_only)
    yield "NaN in the loss", [functools.partial(kills.try_nan, n) for n in range(flags.nan)]
    yield (
        "a second run in the same work directory",
        [functools.partial(kills.try_second, n) for n in range(flags.seconds)],
    )


def _damaged(
    reads: damage.Damage, done: pathlib.Path, flags: argparse.Namespace, generator: random.Random
) -> Iterator[tuple[str, list[Trial]]]:
    """Yields what may become of files."""
    names = damage.artefacts(done)
    generator.shuffle(names)
    yield (
        "one bit flipped in any file",
        [
            functools.partial(
                reads.try_one,
                f"flip{n}",
                names[n % len(names)],
                functools.partial(damage.flip, generator=random.Random(generator.random())),
            )
            for n in range(flags.flips)
        ],
    )
    for kind, change in damage.EDITS.items():
        yield (
            kind,
            [
                functools.partial(reads.try_one, f"{change.__name__}{n}", name, change)
                for n, name in enumerate(names[: flags.edits])
            ],
        )


def _folder(path: pathlib.Path) -> pathlib.Path:
    path.mkdir()
    return path


def _call(trial: Trial) -> str | None:
    return trial()


def _table(rows: Sequence[tuple[str, int, list[str]]]) -> str:
    lines = ["| fault | tried | held | lost |", "|---|--:|--:|--:|"]
    lines += [f"| {name} | {n} | {n - len(lost)} | {len(lost)} |" for name, n, lost in rows]
    return "\n".join(lines)


def _write(table: str) -> None:
    """Puts the table in the place of the one in the docs."""
    text = PAGE.read_text(encoding="utf-8")
    pattern = r"\| fault \| tried .*?\n(?=\n)"
    PAGE.write_text(re.sub(pattern, lambda _: f"{table}\n", text, flags=re.S), encoding="utf-8")


if __name__ == "__main__":
    main()
