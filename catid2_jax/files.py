"""Atomic writes: a path holds either the whole of what is written or what it held before.

Where several processes do the same work, only the first one writes. What has been written is on
disk, its name included, before anything that is done later.
"""

import contextlib
import ctypes
import errno
import functools
import glob
import json
import os
import pathlib
import shutil
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import IO, Any

import numpy as np
import xxhash

from catid2_jax.errors import InputError
from catid2_jax.processes import is_first

SEAL = "seal"
"""The field of a sealed JSON file that holds the digest of the others."""

DIGESTS = "digests.json"
"""Name of the sealed file in a checkpoint with the digests of the others."""

_AT_CWD, _EXCHANGE = -100, 2  # of Linux's renameat2

_watchers: list[Callable[[], None]] = []


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
    _make_folder(path.parent)
    for left in _left_behind(path):
        left.unlink(missing_ok=True)
    temporary = temporary_path(path)
    try:
        with open(temporary, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename is None:  # a full disk, for one, is said without the file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(
    path: str | os.PathLike[str], names: Collection[str] | None = None
) -> Iterator[pathlib.Path]:
    """Makes an empty folder beside `path` that takes its place when the block ends without error.

    A folder that was there before is exchanged for the new one as a whole. The first process alone
    calls this.

    Args:
        path: the folder.
        names: all names that what is written may have, and so what an earlier one may have left;
            what else lies in the folder stays there. None if nothing else does.

    Yields:
        The new folder. After an exception it is removed and `path` is unchanged.

    Raises:
        InputError: `path` is no folder, or one that cannot be exchanged: a mount point, or the
            current folder or one around it.
    """
    path = pathlib.Path(path).resolve()
    _check_exchangeable(path)
    _make_folder(path.parent)
    for left in _left_behind(path):
        if left.name.endswith(".old.tmp") and not path.exists():
            left.rename(path)
        else:
            _retire(left, path, names)
    temporary = temporary_path(path)
    try:
        temporary.mkdir()
        yield temporary
        sync_tree(temporary)
        if path.exists():
            _exchange(temporary, path)
            _retire(temporary, path, names)
        else:
            temporary.rename(path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_path(path: pathlib.Path) -> pathlib.Path:
    """A name beside `path` that no other process takes."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")


def sync_tree(folder: pathlib.Path) -> None:
    """Brings the files of a folder, and all names in it, to disk."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                os.fsync(file.fileno())
        _sync_folder(pathlib.Path(place))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with atomic_write(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def write_sealed(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Writes JSON with a digest of its values, by which `read_sealed` knows them again."""
    write_json(path, {**values, SEAL: values_digest(values)})
    for call in _watchers:
        call()


@contextlib.contextmanager
def watched(call: Callable[[], None]) -> Iterator[None]:
    """Has `call` called, in this block, whenever a sealed file has been written.

    These say what is done: the record of a step, and the digests of a checkpoint.
    """
    _watchers.append(call)
    try:
        yield
    finally:
        _watchers.remove(call)


def read_sealed(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads what `write_sealed` wrote.

    Raises:
        ValueError: it is no JSON, or not as it was written.
        FileNotFoundError: there is no such file.
    """
    values = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    if not isinstance(values, dict) or values.pop(SEAL, None) != values_digest(values):
        raise ValueError("changed since it was written")
    return values


def values_digest(values: Any) -> str:
    """A digest of values that JSON has, whatever the order of their names."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return xxhash.xxh3_64_hexdigest(text.encode("utf-8", "surrogatepass"))


def file_digest(path: str | os.PathLike[str]) -> str:
    """XXH3 of a file, 64 bits; one that this process has read before is not read again."""
    found = os.stat(path)
    return _file_digest(os.fspath(path), found.st_ino, found.st_size, found.st_mtime_ns)


@functools.cache
def _file_digest(path: str, inode: int, size: int, modified: int) -> str:
    digest = xxhash.xxh3_64()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_npy(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Writes `array` in NumPy's .npy format, atomically and without pickle."""
    with atomic_write(path, "wb") as file:
        np.save(file, array, allow_pickle=False)


def write_npy_blocks(
    path: str | os.PathLike[str], blocks: Iterable[np.ndarray], shape: tuple[int, int]
) -> None:
    """Writes an array block by block, of which one at a time is in memory.

    Args:
        path: the file, atomically written; its bytes are those of `write_npy`.
        blocks: float32 [rows, D], one after another.
        shape: (rows of all blocks, D).
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with atomic_write(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(block.astype("<f4").tobytes())


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


def _make_folder(folder: pathlib.Path) -> None:
    """Makes a folder and those around it, their names on disk."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: pathlib.Path) -> None:
    """Brings the names in a folder to disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing
            raise
    finally:
        os.close(opened)


def _left_behind(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """What processes of this machine left of their writes to `path`, killed before the end."""
    before, _, after = temporary_path(path).name.rpartition(f".{os.getpid()}.")
    for left in path.parent.glob(f"{glob.escape(before)}.*{after}"):
        number = left.name.removeprefix(f"{before}.").removesuffix(f".{after}")
        number = number.removesuffix(".old")
        if number.isdecimal() and (int(number) == os.getpid() or not _is_alive(int(number))):
            yield left


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _check_exchangeable(path: pathlib.Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(path, "a file", "a folder")
    fixed = "a mount point" if path.is_mount() else "the current folder, or one around it"
    if path.is_mount() or pathlib.Path.cwd().is_relative_to(path):
        raise InputError(path, fixed, "a folder in it, which is exchanged for another as a whole")


def _exchange(new: pathlib.Path, old: pathlib.Path) -> None:
    """Swaps two folders at once, or, where the system cannot, by way of a third name."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename and rename(_AT_CWD, bytes(new), _AT_CWD, bytes(old), _EXCHANGE) == 0:
        return
    aside = new.with_suffix(".old.tmp")
    old.rename(aside)
    new.rename(old)
    aside.rename(new)


def _retire(old: pathlib.Path, new: pathlib.Path, names: Collection[str] | None) -> None:
    """Removes a folder whose place `new` has taken, once what is of no name of `names` is there."""
    if names is not None and new.is_dir():
        for entry in old.iterdir():
            if entry.name not in names and not (new / entry.name).exists():
                entry.rename(new / entry.name)
    shutil.rmtree(old, ignore_errors=True)
