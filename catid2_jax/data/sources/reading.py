"""Files in Parquet, JSON Lines and CSV as Arrow record batches, streamed and checked."""

import codecs
import contextlib
import csv
import io
import itertools
import pathlib
from collections.abc import Collection, Iterator, Sequence
from os import PathLike
from typing import Any

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet

from catid2_jax.data.lines import decode_line, parse_json_object, unchanged
from catid2_jax.errors import InputError

BATCH_ROWS = 16_384  # rows in memory at a time
_JSON_BLOCK = 1 << 25  # bytes; no line may be longer
_CSV_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}

Path = str | PathLike[str]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Reports what goes wrong with a file in the block, and that it changed meanwhile.

    Raises:
        InputError: the file is missing, cut off, damaged, or not as it was when the block began.
    """
    try:
        with unchanged(path):
            yield
    except FileNotFoundError as missing:
        raise InputError(f"{path}: found no such file, expected a file to read") from missing
    except (OSError, pa.ArrowException) as broken:
        reason = " ".join(str(broken).split())
        raise InputError(
            f"{path}: found {reason:.200}, expected a whole and readable file"
        ) from broken


def parquet_batches(
    path: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    """Streams columns of a Parquet file, and those of `optional` that it has.

    Raises:
        InputError: a column is missing (named, with those found), or see `reading`.
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
        path: one object per line.
        schema: the fields to read; null where a line lacks one. Other fields are passed over.

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
            # Arrow counts rows from the start of a block, so the line is looked for anew.
            for number, line in _lines(path):
                where = f"{path}:{number}"
                _check_fields(parse_json_object(line.rstrip(), where), schema, where)
            raise


def csv_batches(
    path: Path,
    columns: Sequence[str],
    delimiter: str = ",",
    encoding: str = "utf-8",
    optional: Sequence[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Streams columns of a file of separated values, and those of `optional` that it has.

    The file has a header and may be compressed (.gz, .zst); all values come as text.
    Cells with the delimiter, a quote or a line end in them are quoted, quotes in them doubled
    (RFC 4180). Python's reader is used because it refuses a quote that is never closed, where
    Arrow's takes all that follows it for one cell.

    Raises:
        InputError: a column is missing (named, with those found), another delimiter, bytes of
            another encoding or a row of another length (each with its line), or see `reading`.
    """
    csv.field_size_limit(1 << 30)
    with reading(path):
        lines = _TextLines(path, encoding)
        first = next(lines, "")
        _check_delimiter(first, columns, delimiter, path)
        rows = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
        try:
            header = next(rows)
            require_columns(columns, header, path)
            wanted = _distinct(columns, optional, header)
            places = [header.index(name) for name in wanted]
            whole = _whole_rows(rows, len(header), lines)
            while batch := list(itertools.islice(whole, BATCH_ROWS)):
                cells = list(zip(*batch, strict=True))
                values = [pa.array(cells[place], pa.string()) for place in places]
                yield pa.RecordBatch.from_arrays(values, wanted)
        except csv.Error as error:
            raise InputError(
                f"{lines.where}: found {error}, expected cells quoted as in RFC 4180"
            ) from error


def require_columns(columns: Collection[str], found: Sequence[str], path: Path) -> None:
    """Raises InputError, with the columns found, if one of `columns` is not among them."""
    for name in columns:
        if name not in found:
            names = ", ".join(found) or "none"
            raise InputError(f"{path}: found the columns {names:.300}, expected also {name!r}")


def files_of(path: Path, pattern: str) -> list[pathlib.Path]:
    """The file itself, or the files of a folder and those below it that fit `pattern`, by name.

    Raises:
        InputError: a folder without such a file.
    """
    folder = pathlib.Path(path)
    if not folder.is_dir():
        return [folder]
    files = sorted(folder.rglob(pattern))
    if not files:
        raise InputError(f"{path}: found no file {pattern}, expected at least one")
    return files


def _distinct(columns: Sequence[str], optional: Sequence[str], found: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*columns, *(name for name in optional if name in found)]))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, as (number from 1, bytes)."""
    with pa.input_stream(str(path), compression="detect") as stream:
        for number, line in enumerate(io.BufferedReader(stream, _JSON_BLOCK), 1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if line.strip(b" \r\n"):  # a line of tabs may be a row
                yield number, line


def _check_fields(record: dict[str, Any], schema: pa.Schema, where: str) -> None:
    for field in schema:
        value = record.get(field.name)
        if not _fits(value, field.type):
            raise InputError(f"{where}: found {field.name} {value!r:.60}, expected {field.type}")


def _fits(value: Any, kind: pa.DataType) -> bool:
    if isinstance(value, str) and pa.types.is_nested(kind):
        return False  # Arrow would take it for a list of its characters
    try:
        pa.array([value], kind)
    except (pa.ArrowException, TypeError):
        return False
    return True


class _TextLines:
    """The lines of a file as text; `where` names the last one."""

    def __init__(self, path: Path, encoding: str) -> None:
        _check_encoding(encoding)
        self._lines, self._path, self._encoding = _lines(path), path, encoding
        self.where = str(path)

    def __iter__(self) -> "_TextLines":
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        self.where = f"{self._path}:{number}"
        if self._encoding.lower() in ("utf-8", "utf8"):
            return decode_line(line, self.where)
        try:
            return line.decode(self._encoding)
        except UnicodeDecodeError as error:
            found = line[error.start : error.start + 1]
            raise InputError(
                f"{self.where}: found the byte {found!r} at column {error.start + 1}, expected "
                f"{self._encoding}"
            ) from error


def _check_encoding(encoding: str) -> None:
    try:
        ends = b"\n".decode(encoding) == "\n"
    except LookupError as error:
        raise InputError(f"found encoding {encoding!r}, expected one that Python knows") from error
    except UnicodeDecodeError:
        ends = False
    if not ends:
        raise InputError(
            f"found encoding {encoding!r}, in which a line does not end with one byte, expected "
            f"another: iconv -f {encoding} -t utf-8 makes it one"
        )


def _whole_rows(rows: Iterator[list[str]], length: int, lines: _TextLines) -> Iterator[list[str]]:
    for row in rows:
        if len(row) != length:
            raise InputError(
                f"{lines.where}: found {len(row)} cells, expected {length} as in the header"
            )
        yield row


def _check_delimiter(header: str, columns: Sequence[str], delimiter: str, path: Path) -> None:
    told = _CSV_DELIMITERS.get(delimiter, repr(delimiter))
    for other, name in _CSV_DELIMITERS.items():
        cells = {cell.strip('"') for cell in header.strip().split(other)}
        if delimiter not in header and len(cells) > 1 and cells & set(columns):
            raise InputError(
                f"{path}: found the header {header.strip()!r:.80}, which a {name} separates, "
                f"expected a {told} (the delimiter told)"
            )
