"""Files of lines: reading with line numbers, checking fields, writing atomically.

The readers of catalogues, queries, judgements, runs and document IDs share these functions.
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

_JSON_KINDS = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}
LONGEST_LINE = 16 << 20
"""Bytes of the longest line that is read: more are no record, but no lines, or a gzip bomb."""


def check_suffix(path: str | PathLike[str], suffixes: Iterable[str]) -> None:
    """Raises InputError unless the name of `path` ends in one of `suffixes`."""
    suffixes = tuple(suffixes)
    if not pathlib.Path(path).name.endswith(suffixes):
        raise InputError(path, "another suffix", f"one of {', '.join(suffixes)}")


@contextlib.contextmanager
def unchanged(path: str | PathLike[str]) -> Iterator[None]:
    """Raises an error if a file's size or modification time changes during the block.

    This error replaces any other from the block, since a file that is still being written is
    often broken as well.

    Raises:
        InputError: the file has changed since the block began.
    """
    before = _size_and_time(path)
    error: Exception | None = None
    try:
        yield
    except Exception as found:
        error = found
    if _size_and_time(path) != before:
        raise InputError(path, "that it changed while it was read", "a finished file")
    if error is not None:
        raise error


def _size_and_time(path: str | PathLike[str]) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def read_lines(path: str | PathLike[str]) -> Iterator[tuple[int, bytes]]:
    r"""Yields (line number from 1, bytes) for each line of a plain or .gz file that is not blank.

    Only "\n" ends a line, since a title may contain Unicode's other line separators.

    Raises:
        InputError: the file is missing, unreadable or a damaged gzip, changes while it is read, or
            has lines that end in a carriage return alone or are of more than `LONGEST_LINE` bytes.
    """
    opener: Any = gzip.open if str(path).endswith(".gz") else open
    try:
        with unchanged(path), opener(path, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
                if len(line) > LONGEST_LINE:
                    found = f"a line of more than {LONGEST_LINE >> 20} MiB"
                    raise InputError(f"{path}:{number}", found, "a line per record")
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                    check_line_end(line, f"{path}:{number}")
                if line.strip():
                    yield number, line
    except FileNotFoundError as error:
        raise InputError(path, "no such file", "a file to read") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(path, f"a damaged gzip ({error})", "a whole one") from error
    except OSError as error:
        raise InputError(path, error.strerror or error, "a file to read") from error


def check_line_end(line: bytes, where: object) -> None:
    """Raises `line_end_error` if a carriage return, by which old programs end lines, is inside."""
    if b"\r" in line.rstrip(b"\r\n"):
        raise line_end_error(where)


def line_end_error(where: object) -> InputError:
    """Returns the error of a file in which a carriage return alone ends lines."""
    expected = r"LF or CR LF: convert the file with tr '\r' '\n'"
    return InputError(where, "lines that end in CR alone", expected)


def decode_line(line: bytes, where: str) -> str:
    """Decodes a line of UTF-8.

    Raises:
        InputError: the line is not UTF-8.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        found = line[error.start : error.start + 1]
        raise InputError(
            where, f"the byte {found!r} at column {error.start + 1}", "UTF-8"
        ) from error


def parse_json_object(line: bytes, where: str, with_nan: bool = False) -> dict[str, Any]:
    """Parses a line of JSON Lines.

    Args:
        line: the line.
        where: its place, for errors.
        with_nan: whether NaN and infinity, which JSON does not have, are read as numbers.

    Raises:
        InputError: the line is not UTF-8, not JSON (which has no NaN or infinity), or no object.
    """
    text = decode_line(line, where)
    try:
        value = json.loads(text, parse_constant=float if with_nan else _refuse_constant)
        if "\\u" in text:  # only an escape makes a lone surrogate, which UTF-8 cannot encode
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(where, "a lone surrogate", "valid Unicode") from error
    except (ValueError, RecursionError) as error:
        reason: object = error
        if isinstance(error, json.JSONDecodeError):  # its text says "line 1", whatever the line
            reason = f"{error.msg} at column {error.colno}"
        raise InputError(where, f"invalid JSON ({reason})", "an object") from error
    if not isinstance(value, dict):
        raise InputError(where, f"{value!r:.60}", "a JSON object")
    return value


def parse_id(value: Any, where: str) -> str:
    """Checks that an id fits into a column of a TREC file; an integer becomes its digits.

    Raises:
        InputError: the id is neither text nor an integer, is empty, or contains white space.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or value.split() != [value] or value[0] == "\ufeff":
        raise InputError(where, f"id {value!r:.60}", "text without white space")
    return value


def require_fields(record: dict[str, Any], names: Iterable[str], where: str) -> None:
    """Raises InputError if `record` lacks one of `names`."""
    for name in names:
        if name not in record:
            found = ", ".join(record) or "none"
            raise InputError(where, f"the fields {found!r:.200}", f"also {name!r}")


def parse_text(value: Any, field: str, where: str) -> str:
    """Checks that a field is text that is not blank.

    Raises:
        InputError: the field is blank or not text.
    """
    if not isinstance(value, str):
        kind = _JSON_KINDS.get(type(value), type(value).__name__)
        raise InputError(where, f"{field} {value!r:.60}, which is {kind}", "text")
    if not value.strip():
        raise InputError(where, f"{field} {value!r:.60}", "text that is not blank")
    return value


def write_lines(path: str | PathLike[str], lines: Iterable[str]) -> None:
    """Writes lines as UTF-8, atomically; compressed if `path` ends in .gz.

    Equal lines give equal bytes: the gzip header holds neither a name nor a time.
    """
    with atomic_write(path, "wb") as file:
        if not str(path).endswith(".gz"):
            file.writelines(f"{line}\n".encode() for line in lines)
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
            compressed.writelines(f"{line}\n".encode() for line in lines)


def at_least_one(lines: Iterable[str], path: str | PathLike[str], what: str) -> Iterator[str]:
    """Yields lines for a file whose reader refuses one without any.

    Raises:
        InputError: there is none; `what` says of what.
    """
    found = False
    for line in lines:
        found = True
        yield line
    if not found:
        raise InputError(path, f"no {what} to write", "at least one")


def json_line(record: dict[str, Any], where: str) -> str:
    """Returns a record as a line of JSON Lines, without the line end.

    Raises:
        InputError: a value that JSON cannot express, such as a date, NaN or a lone surrogate.
    """
    try:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
        line.encode("utf-8")
        return line
    except (TypeError, ValueError) as error:
        raise InputError(where, error, "values that JSON has") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
