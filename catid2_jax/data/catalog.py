"""The catalogue: products in JSON Lines or Parquet, read record by record and checked."""

import codecs
import contextlib
import gzip
import json
import pathlib
import zlib
from collections.abc import Iterable, Iterator
from os import PathLike
from typing import IO, Any, Literal, NoReturn

from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write
from catid2_jax.types import Product

JSON_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
PARQUET_SUFFIX = ".parquet"

_REQUIRED = ("id", "title", "categories")
_PARQUET_BATCH = 4096  # rows in memory at a time


class CatalogReader:
    """The products of a catalogue file, streamed anew by each iteration.

    Attributes:
        rejected: records left out by the current or latest iteration.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        on_error: Literal["raise", "skip"] = "raise",
        rejects: str | PathLike[str] | None = None,
    ):
        if on_error not in ("raise", "skip"):
            raise InputError(f"found on_error {on_error!r}, expected 'raise' or 'skip'")
        check_suffix(path, (*JSON_SUFFIXES, PARQUET_SUFFIX))
        self.path = path
        self.on_error = on_error
        self.rejects = rejects
        self.rejected = 0

    def __iter__(self) -> Iterator[Product]:
        self.rejected = 0
        first_seen: dict[str, str] = {}
        path = self.rejects if self.on_error == "skip" else None
        with contextlib.nullcontext() if path is None else atomic_write(path) as rejects:
            for place, number, record in _read_records(self.path):
                where = f"{self.path}{place}"
                try:
                    product = _parse_product(record, where)
                    if product.id in first_seen:
                        first = first_seen[product.id]
                        raise InputError(
                            f"{where}: found id {product.id!r} again, expected unique ids "
                            f"(first at {self.path}{first})"
                        )
                except InputError as error:
                    if self.on_error == "raise":
                        raise
                    self.rejected += 1
                    if rejects is not None:
                        _write_reject(rejects, number, error, record)
                    continue
                first_seen[product.id] = place
                yield product
        # After the block, so that the rejects that explain it are on disk.
        if not first_seen:
            raise InputError(
                f"{self.path}: found no product ({self.rejected} records rejected), "
                "expected at least one"
            )


def read_catalog(
    path: str | PathLike[str],
    on_error: Literal["raise", "skip"] = "raise",
    rejects: str | PathLike[str] | None = None,
) -> CatalogReader:
    """Reads a catalogue record by record.

    A record has `id` (no white space, unique; an integer becomes its digits), `title` (not
    blank), `categories` (list of names, root first; white space around them is removed) and may
    have `text`. All other fields go to `Product.extra`. Blank lines are ignored.

    Args:
        path: .jsonl, .json (one object per line), either with .gz, or .parquet.
        on_error: "raise" stops at the first bad record; "skip" leaves it out and counts it.
        rejects: with "skip", a JSON Lines file that gets `line` (Parquet: the row, from 1),
            `error` and `record` of each bad record, once the iteration has reached the end.

    Returns:
        An iterable of products whose `rejected` counts the records left out.

    Raises:
        InputError: a bad record (with its line), an unreadable file, no product at all; all but
            a wrong suffix or `on_error` come up while iterating.
    """
    return CatalogReader(path, on_error, rejects)


def write_catalog(path: str | PathLike[str], products: Iterable[Product]) -> None:
    """Writes products as JSON Lines (compressed if `path` ends in .gz), atomically.

    Raises:
        InputError: the suffix is not a JSON Lines suffix, or a further field is not JSON.
    """
    check_suffix(path, JSON_SUFFIXES)
    write_lines(path, (_product_line(product) for product in products))


def product_text(product: Product, with_categories: bool) -> str:
    """The text that stands for a product when it is embedded.

    Args:
        product: the product.
        with_categories: adds the category path; the paper's Table 4 compares both.

    Returns:
        "title. text. A > B > C", without what is empty.
    """
    parts = [product.title.strip(), product.text.strip()]
    if with_categories:
        parts.append(" > ".join(product.categories))
    return ". ".join(part for part in parts if part)


def check_suffix(path: str | PathLike[str], suffixes: Iterable[str]) -> None:
    """Raises InputError if the name of `path` ends in none of `suffixes`."""
    suffixes = tuple(suffixes)
    if not pathlib.Path(path).name.endswith(suffixes):
        raise InputError(f"{path}: found another suffix, expected one of {', '.join(suffixes)}")


def read_lines(path: str | PathLike[str]) -> Iterator[tuple[int, bytes]]:
    r"""Yields the lines of a plain or .gz file that are not blank, as (number from 1, bytes).

    Lines end at "\n" alone: Unicode's other line ends may stand inside a title.

    Raises:
        InputError: the file is missing, unreadable, or a damaged gzip.
    """
    opener: Any = gzip.open if str(path).endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
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


def _read_records(
    path: str | PathLike[str],
) -> Iterator[tuple[str, int, bytes | dict[str, Any]]]:
    """Yields (place as it stands after the path in messages, number, record)."""
    if str(path).endswith(PARQUET_SUFFIX):
        for number, row in enumerate(_read_parquet(path), 1):
            yield f": row {number}", number, row
    else:
        for number, line in read_lines(path):
            yield f":{number}", number, line


def _read_parquet(path: str | PathLike[str]) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            require_fields(dict.fromkeys(file.schema_arrow.names), _REQUIRED, str(path))
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH):
                yield from batch.to_pylist()
    except FileNotFoundError as error:
        raise InputError(f"{path}: found no such file, expected a file to read") from error
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: found {reason:.200}, expected a readable Parquet") from error


def _parse_product(record: bytes | dict[str, Any], where: str) -> Product:
    fields = parse_json_object(record, where) if isinstance(record, bytes) else dict(record)
    require_fields(fields, _REQUIRED, where)
    text = fields.pop("text", None)
    if text is not None and not isinstance(text, str):
        raise InputError(f"{where}: found text {text!r:.60}, expected text or null")
    return Product(
        id=parse_id(fields.pop("id"), where),
        title=parse_text(fields.pop("title"), "title", where),
        text=text or "",
        categories=_parse_categories(fields.pop("categories"), where),
        extra=fields,
    )


def _parse_categories(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise InputError(
            f"{where}: found categories {value!r:.60}, expected a list of names, root first"
        )
    return tuple(parse_text(name, "category", where).strip() for name in value)


def _product_line(product: Product) -> str:
    record = {
        "id": product.id,
        "title": product.title,
        "text": product.text,
        "categories": list(product.categories),
        **product.extra,
    }
    return json_line(record, f"product {product.id!r}")


def _write_reject(
    file: IO[str], number: int, error: InputError, record: bytes | dict[str, Any]
) -> None:
    if isinstance(record, bytes):
        raw = record.decode("utf-8", errors="backslashreplace").rstrip("\r\n")
    else:
        raw = json.dumps(record, ensure_ascii=False, default=str)
    line = {"line": number, "error": str(error), "record": raw}
    file.write(json.dumps(line, ensure_ascii=False) + "\n")
