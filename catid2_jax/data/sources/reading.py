"""Streams Parquet, JSON Lines and CSV files as Arrow record batches, and checks them."""

import codecs
import contextlib
import csv
import io
import itertools
import pathlib
from collections.abc import Collection, Iterator, Sequence
from os import PathLike
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet

from catid2_jax.data.lines import (
    check_line_end,
    decode_line,
    line_end_error,
    parse_json_object,
    unchanged,
)
from catid2_jax.errors import InputError

BATCH_ROWS = 16_384  # rows in memory at a time
_JSON_BLOCK = 1 << 25  # bytes; no line may be longer
_OR_LETTERS = "or quoting = none where quotes are letters"
_CSV_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}

Path = str | PathLike[str]
Quoting = Literal["auto", "rfc4180", "none"]
"""How cells are quoted; `csv_batches` says what each means."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns errors of reading a file in the block into one InputError.

    Raises:
        InputError: the file is missing, truncated or damaged, or it changed during the block.
    """
    try:
        with unchanged(path):
            yield
    except FileNotFoundError as missing:
        raise InputError(path, "no such file", "a file to read") from missing
    except (OSError, pa.ArrowException) as broken:
        reason = " ".join(str(broken).split())
        raise InputError(path, f"{reason:.200}", "a whole and readable file") from broken


def parquet_batches(
    path: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    """Streams the named columns of a Parquet file.

    Args:
        path: the file.
        columns: names of columns that it must have.
        optional: names of columns to read if it has them.

    Raises:
        InputError: a missing column (named, with those found), or see `reading`.
    """
    with reading(path), pa.parquet.ParquetFile(path) as file:
        found = file.schema_arrow.names
        require_columns(columns, found, path)
        wanted = _distinct(columns, optional, found)
        for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
            batch.validate(full=True)
            yield batch


def json_batches(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Streams fields of JSON Lines, plain or compressed (.gz, .zst).

    Args:
        path: file of one object per line.
        schema: the fields to read, null where a line lacks one; other fields are ignored.

    Raises:
        InputError: a bad line (named), or see `reading`.
    """
    read = pa.json.ReadOptions(block_size=_JSON_BLOCK)
    parse = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    with reading(path):
        try:
            with pa.input_stream(str(path), compression="detect") as stream:
                for batch in pa.json.open_json(stream, read, parse):
                    batch.validate(full=True)
                    yield from pa.Table.from_batches([batch]).to_batches(BATCH_ROWS)
        except pa.ArrowInvalid:
            # Arrow counts rows from the start of a block, so search for the bad line again.
            for number, line in _lines(path):
                where = f"{path}:{number}"
                check_line_end(line, where)
                _check_fields(parse_json_object(line.rstrip(), where), schema, where)
            raise


def csv_batches(
    path: Path,
    columns: Sequence[str],
    delimiter: str = ",",
    encoding: str = "utf-8",
    optional: Sequence[str] = (),
    quoting: Quoting = "auto",
) -> Iterator[pa.RecordBatch]:
    """Streams the named columns of a file of separated values, all as text.

    Cells that contain the delimiter, a quote or a line end are quoted, with quotes inside doubled
    (RFC 4180). Python's reader is used because it refuses a quote that is never closed; Arrow's
    takes everything after it for one cell. White space around the header's names is passed over,
    and so is a space after every delimiter if the header has it.

    Args:
        path: file with a header, plain or compressed (.gz, .zst).
        columns: names of columns that it must have; a name that the header has several times is
            named as often here.
        delimiter: the character between two cells.
        encoding: the file's encoding under Python's name for it.
        optional: names of columns to read if it has them.
        quoting: "rfc4180"; "none" where quotes are letters; "auto" for RFC 4180, but refusing a
            row of several lines each of which has all cells by itself: there a quote that is a
            letter (an inch mark, say) has swallowed the rows up to the next one.

    Raises:
        InputError: a missing column (named, with those found), another delimiter, lines that end in
            CR alone, bytes of another encoding or a row of another length (both with their line),
            or see `reading`.
    """
    csv.field_size_limit(1 << 30)
    with reading(path):
        lines = _TextLines(path, encoding)
        first = next(lines, "")
        _check_delimiter(first, columns, delimiter, path)
        spaced = all(cell.startswith(" ") for cell in first.split(delimiter)[1:])
        rows = csv.reader(
            itertools.chain([first], lines),
            delimiter=delimiter,
            skipinitialspace=spaced,
            quoting=csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL,
            strict=True,
        )
        try:
            header = next(rows)
            wanted, places = _wanted_columns(header, columns, optional, path)
            lines.row.clear()
            whole = _whole_rows(rows, len(header), lines, delimiter if quoting == "auto" else "")
            while batch := list(itertools.islice(whole, BATCH_ROWS)):
                cells = list(zip(*batch, strict=True))
                values = [pa.array(cells[place], pa.string()) for place in places]
                yield pa.RecordBatch.from_arrays(values, wanted)
        except csv.Error as error:
            if "new-line" in str(error):
                raise line_end_error(lines.where) from error
            raise InputError(
                lines.first, error, f"cells quoted as in RFC 4180, {_OR_LETTERS}"
            ) from error


def _wanted_columns(
    header: Sequence[str], columns: Sequence[str], optional: Sequence[str], path: Path
) -> tuple[list[str], list[int]]:
    """Names of the columns that are asked for and there, and their places in the header."""
    asked = {*columns, *optional}
    names = [name if name in asked else name.strip() for name in header]
    wanted = [*columns, *(n for n in optional if n in names and n not in columns)]
    require_columns(wanted, names, path)
    places_of = {name: iter(_places(names, name)) for name in wanted}
    return wanted, [next(places_of[name]) for name in wanted]


def check_quoting(quoting: str) -> None:
    """Raises InputError unless it is one of `Quoting`."""
    if quoting not in get_args(Quoting):
        choices = ", ".join(map(repr, get_args(Quoting)))
        raise InputError("quoting", repr(quoting), f"one of {choices}")


def header_delimiter(path: Path, columns: Collection[str]) -> str:
    """Returns the delimiter under which the first line of a file names columns; "" if none does."""
    with reading(path):
        header = next(_lines(path), (1, b""))[1].decode(errors="replace").strip()
    for delimiter in _CSV_DELIMITERS:
        if set(columns) <= {cell.strip(' "') for cell in header.split(delimiter)}:
            return delimiter
    return ""


def is_utf8(path: Path) -> bool:
    """Whether all lines of a file, plain or compressed, are UTF-8."""
    with reading(path):
        try:
            for _, line in _lines(path):
                line.decode()
        except UnicodeDecodeError:
            return False
    return True


def csv_header(path: Path, delimiter: str, encoding: str = "utf-8") -> list[str]:
    """Returns the names in the header of a file of separated values, without white space around.

    Raises:
        InputError: the file is empty or its header cannot be read, or see `reading`.
    """
    csv.field_size_limit(1 << 30)
    with reading(path):
        lines = _TextLines(path, encoding)
        try:
            names = next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error as error:
            raise line_end_error(lines.where) from error
    if not names:
        raise InputError(path, "no line", "a header and rows")
    return [name.strip() for name in names]


def require_columns(columns: Collection[str], found: Sequence[str], path: Path) -> None:
    """Checks that a table has columns, each as often as it is asked for.

    Raises:
        InputError: some are missing (named, with those found), or there several times.
    """
    missing = [repr(name) for name in dict.fromkeys(columns) if name not in found]
    if missing:
        names = ", ".join(found) or "none"
        raise InputError(path, f"the columns {names:.300}", f"also {', '.join(missing)}")
    for name in columns:
        there, asked = len(_places(found, name)), list(columns).count(name)
        if there != asked:
            raise InputError(path, f"{there} columns named {name!r}", f"{asked} of that name")


def files_of(path: Path, pattern: str) -> list[pathlib.Path]:
    """Returns `path` itself if it is no folder, else all files below it that match `pattern`.

    Args:
        path: a file or a folder.
        pattern: a glob for file names, such as "*.parquet".

    Returns:
        The files, sorted by path.

    Raises:
        InputError: a folder without such a file.
    """
    folder = pathlib.Path(path)
    if not folder.is_dir():
        return [folder]
    files = sorted(folder.rglob(pattern))
    if not files:
        raise InputError(path, f"no file {pattern}", "at least one")
    return files


def _distinct(columns: Sequence[str], optional: Sequence[str], found: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*columns, *(name for name in optional if name in found)]))


def _places(names: Sequence[str], name: str) -> list[int]:
    return [place for place, found in enumerate(names) if found == name]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that are not blank, as (number from 1, bytes)."""
    with pa.input_stream(str(path), compression="detect") as stream:
        for number, line in enumerate(io.BufferedReader(stream, _JSON_BLOCK), 1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if line.strip(b" \r\n"):  # a line of tabs may be a row
                yield number, line


def _check_fields(record: dict[str, Any], schema: pa.Schema, where: str) -> None:
    for field in schema:
        value = record.get(field.name)
        if not _fits(value, field.type):
            raise InputError(where, f"{field.name} {value!r:.60}", field.type)


def _fits(value: Any, kind: pa.DataType) -> bool:
    if isinstance(value, str) and pa.types.is_nested(kind):
        return False  # Arrow would read the text as a list of its characters
    try:
        pa.array([value], kind)
    except (pa.ArrowException, TypeError):
        return False
    return True


class _TextLines:
    """Iterates over the lines of a file as text.

    Attributes:
        where: names the last line read.
        row: the lines read since it was last emptied; `first` names the first of them.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        _check_encoding(encoding)
        self._lines, self._path, self._encoding = _lines(path), path, encoding
        self.where = self.first = str(path)
        self.row: list[str] = []

    def __iter__(self) -> "_TextLines":
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        self.where = f"{self._path}:{number}"
        if not self.row:
            self.first = self.where
        self.row.append(self._decode(line))
        return self.row[-1]

    def _decode(self, line: bytes) -> str:
        if self._encoding.lower() in ("utf-8", "utf8"):
            return decode_line(line, self.where)
        try:
            return line.decode(self._encoding)
        except UnicodeDecodeError as error:
            found = line[error.start : error.start + 1]
            raise InputError(
                self.where, f"the byte {found!r} at column {error.start + 1}", self._encoding
            ) from error


def _check_encoding(encoding: str) -> None:
    try:
        ends = b"\n".decode(encoding) == "\n"
    except LookupError as error:
        raise InputError("encoding", repr(encoding), "one that Python knows") from error
    except UnicodeDecodeError:
        ends = False
    if not ends:
        raise InputError(
            "encoding",
            repr(encoding),
            "one in which a line end is a single byte: convert the file with "
            f"iconv -f {encoding} -t utf-8",
        )


def _whole_rows(
    rows: Iterator[list[str]], length: int, lines: _TextLines, delimiter: str
) -> Iterator[list[str]]:
    """Checks the rows; with a delimiter, also that none has swallowed others."""
    for row in rows:
        several = delimiter and length > 1 and len(lines.row) > 1
        if several and all(line.count(delimiter) == length - 1 for line in lines.row):
            raise InputError(
                lines.first,
                f"a quote that takes this and the next {len(lines.row) - 1} rows for one",
                f"{_OR_LETTERS[3:]}, or quoting = rfc4180 if this is one row",
            )
        if len(row) != length:
            raise InputError(lines.first, f"{len(row)} cells", f"{length} as in the header")
        lines.row.clear()
        yield row


def _check_delimiter(header: str, columns: Sequence[str], delimiter: str, path: Path) -> None:
    given = _CSV_DELIMITERS.get(delimiter, repr(delimiter))
    for other, name in _CSV_DELIMITERS.items():
        cells = {cell.strip('"') for cell in header.strip().split(other)}
        if delimiter not in header and len(cells) > 1 and cells & set(columns):
            raise InputError(
                path,
                f"the header {header.strip()!r:.80}, separated by a {name}",
                f"a {given}, or delimiter={'tab' if name == 'tab' else other!r}",
            )
