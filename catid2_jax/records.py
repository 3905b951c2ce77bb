"""The records that a work directory's steps leave, and the systems whose steps have any."""

import dataclasses
import fnmatch
import json
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from catid2_jax.errors import InputError
from catid2_jax.files import file_digest, read_sealed, write_sealed

FORMAT = 3
"""Format of a work directory; one of another format is refused."""

SYSTEM_ORDER = (
    *("cat_id2", "cat_id2_literal", "tiger", "cost", "bm25", "rq_kmeans"),
    *("rq_kmeans_balanced", "category_prefix", "random_ids", "given", "clusters"),
)
"""The systems that come first where one is to be chosen: the first rows of `systems.SYSTEMS`."""

_OWN_STEPS = ("docids", "train_seq2seq", "train_towers", "retrieve")  # each system has its own


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of a step.

    Attributes:
        config: what it depends on, by `workdir.relevant_values`.
        system: the entry of `config.systems` that it belongs to; empty for a shared step.
        done: whether its files are whole.
        seconds: how long it took.
        result: what later steps need to know beside its files.
        files: size and digest of each file that it left, by its path in the step's folder.
        built_on: digest of each file of earlier steps that it reads, by its path in the work
            directory.
        finished: when it was done, in UTC.
        memory: the most resident bytes of the process while it ran; 0 if unknown.
        format: format of the work directory.
    """

    config: Mapping[str, Any]
    system: str = ""
    done: bool = False
    seconds: float | None = None
    result: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    built_on: Mapping[str, str] = dataclasses.field(default_factory=dict)
    finished: str = ""
    memory: int = 0
    format: int = FORMAT


def record_path(folder: pathlib.Path, step: str) -> pathlib.Path:
    """Where the record of a step lies."""
    return folder / "steps" / f"{step}.json"


def read_record(path: pathlib.Path) -> Record | None:
    """A step's record, or None if it has none.

    Raises:
        InputError: the file is no record, one of another version of this package, or not as it was
            written.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(path, "no JSON", "the record of a step") from error
    found = values.get("format", 1) if isinstance(values, dict) else None
    if found != FORMAT:
        raise InputError(
            path,
            f"a work directory of format {found}, made by another version",
            f"format {FORMAT}: make it anew",
        )
    try:
        return Record(**read_sealed(path))
    except (TypeError, ValueError) as error:
        raise InputError(
            path,
            "a record that has changed since it was written",
            "it as it was: restore it, or delete it and run the same command again",
        ) from error


def write_record(path: pathlib.Path, record: Record) -> None:
    """Writes a step's record, atomically."""
    write_sealed(path, dataclasses.asdict(record))


def finish(
    record: Record, folder: pathlib.Path, left: Sequence[str], seconds: float, result: Any = None
) -> Record:
    """The record of a step once it is done.

    Args:
        record: that of the step while it was running.
        folder: the step's folder.
        left: patterns of the paths in it of the files that the step has left.
        seconds: how long it took.
        result: what later steps need to know beside its files.
    """
    paths = sorted({path for pattern in left for path in folder.glob(pattern) if path.is_file()})
    files = {
        path.relative_to(folder).as_posix(): (path.stat().st_size, file_digest(path))
        for path in paths
    }
    now = _time(time.time())
    return dataclasses.replace(
        record, done=True, seconds=seconds, result=result or {}, files=files, finished=now
    )


def check_files(path: pathlib.Path, patterns: Sequence[str] = ("*",)) -> None:
    """Checks that files are as a step left them; a step that is not done has left none.

    Args:
        path: where the record of the step lies.
        patterns: of the paths of the files in the step's folder; "*" matches "/" too.

    Raises:
        InputError: a file is missing or has changed.
    """
    record = read_record(path)
    if record is None or not record.done:
        return
    for name, (size, digest) in left_files(record, patterns).items():
        file = path.parent.parent / name
        found = _change(file, size, digest)
        if found:
            raise InputError(
                file,
                f"{found} since the step {path.stem} left it at {record.finished}",
                f"it as it was: restore it, or delete {path} and run the same command again, which "
                "makes it anew",
            )


def left_files(record: Record, patterns: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Size and digest of the files that a step left, of those whose paths match a pattern."""
    return {
        name: found
        for name, found in record.files.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def _change(file: pathlib.Path, size: int, digest: str) -> str:
    """How a file has changed; empty if it has not."""
    if not file.is_file():
        return "no such file, removed"
    found = file.stat()
    modified = f"(last modified at {_time(found.st_mtime)})"
    if found.st_size != size:
        return f"{found.st_size:,} bytes instead of {size:,} {modified}: changed"
    return "" if file_digest(file) == digest else f"other contents {modified}: changed"


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def systems_in(root: str | os.PathLike[str]) -> list[str]:
    """The systems with a record in a work directory: `SYSTEM_ORDER`, then others by their names.

    Raises:
        InputError: it is no work directory.
    """
    root = pathlib.Path(root)
    if not (root / "steps").is_dir():
        found = "no such folder" if not root.is_dir() else "no steps/"
        raise InputError(root, found, "a work directory that `pipeline` made")
    paths = [path for step in _OWN_STEPS for path in root.glob(f"*/steps/{step}.json")]
    there = {path.parent.parent.name for path in paths}
    first = [name for name in SYSTEM_ORDER if name in there]
    return first + sorted(there.difference(first))


def choose_system(
    root: str | os.PathLike[str], system: str = "", steps: Sequence[str] = ("train_seq2seq",)
) -> str:
    """The system that is asked for, or the one that stands for a work directory.

    Args:
        root: the work directory.
        system: its name; empty for the first system, in the order of `systems_in`, that has come to
            the first of `steps` that any has come to, or else the first of all.
        steps: what matters, first things first.

    Raises:
        InputError: it is no work directory, or has no such system.
    """
    root, names = pathlib.Path(root), systems_in(root)
    if system and system not in names:
        raise InputError(root, f"no system {system!r}", f"one of {', '.join(names)}")
    if not names:
        raise InputError(root, "no system with a finished step", "a finished work directory")
    reached = (name for s in steps for name in names if record_path(root / name, s).exists())
    return system or next(reached, names[0])
