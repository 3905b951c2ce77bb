"""Damage to a finished work directory; then a verb that reads what was damaged."""

import pathlib
import random
import shutil
from collections.abc import Callable

import numpy as np
import pyarrow.parquet

from tests.faults.runs import Run, on, run

RESULTS = ("*/docids.jsonl", "*/run.trec", "metrics.json")
FEWER = "--config.retrieve.k=14"  # has `retrieve` run again, which reads nearly everything
_UNREAD = ("events.*", "synthetic/*")  # once `prepare` is done


def artefacts(done: pathlib.Path) -> list[pathlib.Path]:
    """All files of a finished work directory that any later step or verb reads."""
    return [
        path.relative_to(done)
        for path in sorted(done.rglob("*"))
        if path.is_file() and not any(path.match(pattern) for pattern in _UNREAD)
    ]


def flip(path: pathlib.Path, generator: random.Random) -> None:
    """Flips a bit."""
    content = bytearray(path.read_bytes() or b"\0")
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


def reverse(path: pathlib.Path) -> bool:
    """Reverses rows or lines; returns whether there are any."""
    if path.suffix == ".npy":
        np.save(path, np.load(path)[::-1])
    elif path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        rows = np.arange(len(table))[::-1]
        pyarrow.parquet.write_table(table.take(rows), path)
    elif path.suffix in (".jsonl", ".txt", ".trec"):
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[::-1]))
    else:
        return False
    return True


def cut(path: pathlib.Path) -> bool:
    """Keeps the first half, up to a line's end where there is one."""
    content = path.read_bytes()
    half = content[: len(content) // 2]
    end = half.rfind(b"\n") + 1
    path.write_bytes(half[:end] if end else half)
    return bool(content)


def empty(path: pathlib.Path) -> bool:
    """Keeps nothing."""
    was_empty = path.stat().st_size == 0
    path.write_bytes(b"")
    return not was_empty


def edit(path: pathlib.Path) -> bool:
    """Puts the first digit of a text up by one."""
    content = path.read_bytes()
    if path.suffix not in (".json", ".jsonl", ".txt", ".trec"):
        return False
    at = next((i for i, byte in enumerate(content) if chr(byte).isdigit()), None)
    if at is None:
        return False
    changed = str((int(chr(content[at])) + 1) % 10).encode()
    path.write_bytes(content[:at] + changed + content[at + 1 :])
    return True


def remove(path: pathlib.Path) -> bool:
    """Removes the file."""
    path.unlink()
    return True


EDITS: dict[str, Callable[[pathlib.Path], bool]] = {
    "rows or lines of a file reversed": reverse,
    "a digit in a file edited": edit,
    "a file cut in half at a line's end": cut,
    "a file emptied": empty,
    "a file removed": remove,
}


class Damage:
    """What verbs that read a finished work directory leave, and what after damage."""

    def __init__(self, folder: pathlib.Path, done: pathlib.Path) -> None:
        """Runs the readers undisturbed.

        Args:
            folder: for everything that is made.
            done: a finished work directory.
        """
        self._folder, self._done = folder, done
        self._expected = {}
        for name in ("cat_id2/rqvae/x", "cat_id2/run.trec", "any"):
            copy = self._copy("sound")
            found = _read(copy, pathlib.Path(name), copy.with_suffix(".log"))
            if found.code != 0:
                raise SystemExit(f"the reader of {name}, undisturbed: {found.text}")
            self._expected[_kind(pathlib.Path(name))] = _results(copy)
            shutil.rmtree(copy)

    def try_one(
        self, number: str, name: pathlib.Path, damage: Callable[[pathlib.Path], object]
    ) -> str | None:
        """Damages one file and reads it; returns what is lost, or nothing, or None: not tried.

        Held is what was refused in one line, or gave the same results, or a warning.
        """
        copy = self._copy(number)
        if damage(copy / name) is False:
            shutil.rmtree(copy)
            return None
        found = _read(copy, name, copy.with_suffix(".log"))
        results = _results(copy)
        same = found.code == 0 and results == self._expected[_kind(name)]
        warned = found.code == 0 and "warning: the checkpoint" in found.text
        if same or warned or found.refused:
            shutil.rmtree(copy)
            return ""
        expected = self._expected[_kind(name)]
        differ = [key for key in expected if results.get(key) != expected[key]]
        return f"{name}: code {found.code}, {', '.join(differ)} differ: {found.last}"

    def _copy(self, name: str) -> pathlib.Path:
        copy = self._folder / name
        shutil.copytree(self._done, copy)
        return copy


def _kind(name: pathlib.Path) -> str:
    if "rqvae" in name.parts:
        return "docids"
    return "evaluate" if name.name in ("run.trec", "metrics.json") else "retrieve"


def _read(workdir: pathlib.Path, name: pathlib.Path, log: pathlib.Path) -> Run:
    """Runs a verb that reads a file."""
    kind = _kind(name)
    if kind == "evaluate":
        return run("evaluate", on(workdir), log)
    if kind == "retrieve":
        return run("pipeline", on(workdir, FEWER), log)
    for path in ("docids.jsonl", "steps/docids.json"):
        (workdir / "cat_id2" / path).unlink(missing_ok=True)
    return run("assign", on(workdir), log)


def _results(workdir: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(workdir)): path.read_bytes()
        for pattern in RESULTS
        for path in workdir.glob(pattern)
    }
