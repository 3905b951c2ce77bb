"""The records that a work directory's steps leave, and the systems whose steps have any."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from catid2_jax.errors import InputError
from catid2_jax.files import write_json

FORMAT = 2
"""Format of a work directory; one of another format is refused."""

SYSTEM_ORDER = (
    *("cat_id2", "tiger", "cost", "bm25", "rq_kmeans", "rq_kmeans_balanced"),
    *("category_prefix", "random_ids", "given", "clusters"),
)
"""The systems that come first where one is to be chosen: the first rows of `systems.SYSTEMS`."""

_OWN_STEPS = ("docids", "train_seq2seq", "retrieve")  # each system has its own


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of a step.

    Attributes:
        config: what it depends on, by `workdir.relevant_values`.
        system: the entry of `config.systems` that it belongs to; empty for a shared step.
        done: whether its files are whole.
        seconds: how long it took.
        result: what later steps need to know beside its files.
        format: format of the work directory.
    """

    config: Mapping[str, Any]
    system: str = ""
    done: bool = False
    seconds: float | None = None
    result: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    format: int = FORMAT


def record_path(folder: pathlib.Path, step: str) -> pathlib.Path:
    """Where the record of a step lies."""
    return folder / "steps" / f"{step}.json"


def read_record(path: pathlib.Path) -> Record | None:
    """A step's record, or None if it has none.

    Raises:
        InputError: the file is no record, or one of another version of this package.
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
        return Record(**values)
    except TypeError as error:
        raise InputError(path, "other fields", "the record of a step") from error


def write_record(path: pathlib.Path, record: Record) -> None:
    """Writes a step's record, atomically."""
    write_json(path, dataclasses.asdict(record))


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
