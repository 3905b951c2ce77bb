"""Files of lines: reading with the line's number, checking fields, writing atomically.

What the readers of catalogues, queries, qrels, runs and document IDs share.
"""

import codecs
import contextlib
import gzip
import json
import os
import pathlib
import zlib
from collections.abc import Iterable, Iterator
from os import PathLike
from typing import Any, NoReturn

from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write

JSON_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")


def check_suffix(path: str | PathLike[str], suffixes: Iterable[str]) -> None:
    """Raises InputError if the name of `path` ends in none of `suffixes`."""
    suffixes = tuple(suffixes)
    if not pathlib.Path(path).name.endswith(suffixes):
        raise InputError(f"{path}: found another suffix, expected one of {', '.join(suffixes)}")


@contextlib.contextmanager
def unchanged(path: str | PathLike[str]) -> Iterator[None]:
    """Reports that a file changed while the block read it, by size and time of change.

    That is said rather than what else went wrong in the block: a file that is being written is
    often also broken.

    Raises:
        InputError: it is not as it was when the block began.
    """
    before = _size_and_time(path)
    error: Exception | None = None
    try:
        yield
    except Exception as found:
        error = found
    if _size_and_time(path) != before:
        raise InputError(
            f"{path}: found that it changed while it was read, expected a finished file"
        )
    if error is not None:
        raise error


def _size_and_time(path: str | PathLike[str]) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def read_lines(path: str | PathLike[str]) -> Iterator[tuple[int, bytes]]:
    r"""Yields the lines of a plain or .gz file that are not blank, as (number from 1, bytes).

    Lines end at "\n" alone: Unicode's other line ends may stand inside a title.

    Raises:
        InputError: the file is missing, unreadable, a damaged gzip, or changes meanwhile.
    """
    opener: Any = gzip.open if str(path).endswith(".gz") else open
    try:
        with unchanged(path), opener(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield number, line
    except FileNotFoundError as error:
        raise InputError(f"{path}: found no such file, expected a file to read") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: found a damaged gzip ({error}), expected a whole one") from error
    except OSError as error:
        raise InputError(
            f"{path}: found {error.strerror or error}, expected a file to read"
        ) from error


def decode_line(line: bytes, where: str) -> str:
    """Decodes UTF-8.

    Raises:
        InputError: other bytes, at `where`.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        found = line[error.start : error.start + 1]
        raise InputError(
            f"{where}: found the byte {found!r} at column {error.start + 1}, expected UTF-8"
        ) from error


def parse_json_object(line: bytes, where: str) -> dict[str, Any]:
    """Parses a line of JSON Lines.

    Raises:
        InputError: not UTF-8, not JSON (NaN and infinities are not), or not an object.
    """
    text = decode_line(line, where)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        if "\\u" in text:  # only an escape can make a lone surrogate, which no file can hold
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: found a lone surrogate, expected valid Unicode") from error
    except (ValueError, RecursionError) as error:
        reason: object = error
        if isinstance(error, json.JSONDecodeError):  # its text says "line 1", whatever the line
            reason = f"{error.msg} at column {error.colno}"
        raise InputError(f"{where}: found invalid JSON ({reason}), expected an object") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: found {value!r:.60}, expected a JSON object")
    return value


def parse_id(value: Any, where: str) -> str:
    """Checks an id, which must fit a column of a TREC file; an integer becomes its digits.

    Raises:
        InputError: neither text nor integer, empty, or with white space.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or value.split() != [value]:
        raise InputError(f"{where}: found id {value!r:.60}, expected text without white space")
    return value


def require_fields(record: dict[str, Any], names: Iterable[str], where: str) -> None:
    """Raises InputError if `record` lacks one of `names`."""
    for name in names:
        if name not in record:
            found = ", ".join(record) or "none"
            raise InputError(f"{where}: found the fields {found!r:.200}, expected also {name!r}")


def parse_text(value: Any, field: str, where: str) -> str:
    """Checks that a field is text that is not blank.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: found {field} {value!r:.60}, expected text that is not blank")
    return value


def write_lines(path: str | PathLike[str], lines: Iterable[str]) -> None:
    """Writes lines as UTF-8, atomically; compressed if `path` ends in .gz.

    The same lines give the same bytes.
    """
    with atomic_write(path, "wb") as file:
        if not str(path).endswith(".gz"):
            file.writelines(f"{line}\n".encode() for line in lines)
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
            compressed.writelines(f"{line}\n".encode() for line in lines)


def json_line(record: dict[str, Any], where: str) -> str:
    """One line of JSON Lines.

    Raises:
        InputError: a value that JSON does not have, such as a date or NaN.
    """
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: found {error}, expected values that JSON has") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
