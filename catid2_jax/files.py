"""Atomic writes: a path holds either the whole file or what it held before.

Where several processes do the same work, only the first one writes.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from catid2_jax.errors import InputError
from catid2_jax.processes import is_first


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike[str], mode: str = "w", own: bool = False
) -> Iterator[IO[Any]]:
    r"""Opens a temporary file beside `path` that replaces it when the block ends without error.

    Args:
        path: the file to write; missing parent directories are created.
        mode: "w" (UTF-8 text, "\n" line ends) or "wb".
        own: True if every process writes a file of its own; False if the first one writes for all
            and the others get a file that discards what they write.

    Yields:
        The open temporary file. After an exception it is removed and `path` is unchanged.
    """
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    if not (own or is_first()):
        with open(os.devnull, mode, **text) as file:
            yield file
        return
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name, so that the next write overwrites what a killed process left behind.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None:  # a full disk, for one, is said without the file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with atomic_write(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def write_npy(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Writes `array` in NumPy's .npy format, atomically and without pickle."""
    with atomic_write(path, "wb") as file:
        np.save(file, array, allow_pickle=False)


def read_npy(path: str | os.PathLike[str], memory_mapped: bool = False) -> np.ndarray:
    """Reads what `write_npy` wrote.

    Args:
        path: the file.
        memory_mapped: whether its rows are read when they are used.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    expected = "an .npy file, as the step before this one leaves it"
    try:
        return np.load(path, allow_pickle=False, mmap_mode="r" if memory_mapped else None)
    except OSError as error:
        found = f"no readable file ({error.strerror or error})"
        raise InputError(path, found, expected) from error
    except (ValueError, EOFError) as error:
        raise InputError(path, f"a damaged file ({error})", expected) from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads what `write_json` wrote.

    Raises:
        InputError: it is damaged.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(path, f"a damaged file ({error})", "JSON, as it was written") from error
