"""Catalogues in JSON Lines or Parquet, read record by record and checked."""

import collections
import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from typing import IO, Any, Literal

from catid2_jax.data.json_values import NoJsonError, column_values, json_value
from catid2_jax.data.lines import (
    JSON_SUFFIXES,
    at_least_one,
    check_suffix,
    json_line,
    parse_id,
    parse_json_object,
    parse_text,
    read_lines,
    require_fields,
    unchanged,
    write_lines,
)
from catid2_jax.data.seen_ids import SeenIds
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write
from catid2_jax.types import Product

PARQUET_SUFFIX = ".parquet"

PRODUCT_FIELDS = ("title", "text", "categories")
"""Text fields that every product has; further fields are in `Product.extra`."""

_REQUIRED = ("id", "title", "categories")
_PARQUET_BATCH = 4096  # rows in memory at a time


class CatalogReader:
    """Iterable over the products of a catalogue file, which each iteration reads anew.

    `stream_products` describes the arguments.

    Attributes:
        rejected: number of records left out by the current or latest iteration.
        values_left_out: further field -> number of its values that JSON cannot hold, which became
            null in that iteration.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        on_error: Literal["raise", "skip"] = "raise",
        rejects: str | PathLike[str] | None = None,
    ):
        if on_error not in ("raise", "skip"):
            raise InputError("on_error", repr(on_error), "'raise' or 'skip'")
        check_suffix(path, (*JSON_SUFFIXES, PARQUET_SUFFIX))
        self.path = path
        self.on_error = on_error
        self.rejects = rejects
        self.rejected = 0
        self.values_left_out: collections.Counter[str] = collections.Counter()

    def __iter__(self) -> Iterator[Product]:
        self.rejected = 0
        self.values_left_out.clear()
        empty = True
        path = self.rejects if self.on_error == "skip" else None
        with (
            contextlib.nullcontext() if path is None else atomic_write(path) as rejects,
            contextlib.closing(SeenIds()) as seen,
        ):
            for place, number, record in _read_records(self.path):
                where = f"{self.path}{place}"
                try:
                    product = _parse_product(record, where, self.values_left_out)
                    first = seen.add(product.id, place)
                    if first:
                        raise InputError(
                            where,
                            f"id {product.id!r} again",
                            f"unique ids (first at {self.path}{first})",
                        )
                except InputError as error:
                    if self.on_error == "raise":
                        raise
                    self.rejected += 1
                    if rejects is not None:
                        _write_reject(rejects, number, error, record)
                    continue
                empty = False
                yield product
        # After the block, so that the file of rejects, which explains the error, is on disk.
        if empty:
            raise InputError(
                self.path, f"no product ({self.rejected} records rejected)", "at least one"
            )


def stream_products(
    path: str | PathLike[str],
    on_error: Literal["raise", "skip"] = "raise",
    rejects: str | PathLike[str] | None = None,
) -> CatalogReader:
    """Reads a catalogue record by record.

    A record has the fields `id` (unique, without white space; an integer becomes its digits),
    `title` (not blank) and `categories` (list of names, root first; white space around them is
    removed), and may have `text`. All other fields go to `Product.extra`, those that JSON does not
    have in another form or, where there is none, as null (see `json_values`). Blank lines are
    ignored.

    Args:
        path: a file named .jsonl or .json (one object per line), .jsonl.gz, .json.gz or .parquet.
        on_error: "raise" stops at the first bad record; "skip" leaves bad records out and counts
            them.
        rejects: JSON Lines file that "skip" writes at the end of an iteration, with `line`
            (Parquet: the row, from 1), `error` and `record` of each bad record.

    Returns:
        An iterable of products whose `rejected` counts the records left out.

    Raises:
        InputError: a wrong suffix or `on_error`, at once; a bad record (named by its line), an
            unreadable file or a file without products, while iterating.
    """
    return CatalogReader(path, on_error, rejects)


def write_catalog(path: str | PathLike[str], products: Iterable[Product]) -> None:
    """Writes products as JSON Lines (compressed if `path` ends in .gz), atomically.

    Raises:
        InputError: the suffix is not one of JSON Lines, there is no product, one could not be read
            again (see `stream_products`), or a field in `extra` is not JSON.
    """
    check_suffix(path, JSON_SUFFIXES)
    write_lines(path, at_least_one(map(_product_line, products), path, "product"))


def product_text(product: Product, with_categories: bool) -> str:
    """Joins a product's title, its text and, on request, its category path.

    Args:
        product: the product.
        with_categories: whether to add the category path; the paper's Table 4 compares both.

    Returns:
        "title. text. A > B > C", with empty fields left out.
    """
    fields = PRODUCT_FIELDS if with_categories else PRODUCT_FIELDS[:-1]
    return join_fields({field: field_value(product, field) for field in fields})


def field_value(product: Product, field: str) -> str:
    """Returns a field of a product as text.

    Args:
        product: the product.
        field: "title", "text", "categories" or a field in `product.extra`.

    Returns:
        The category path as "A > B > C", a list as "a, b, c", a missing field as "".

    Raises:
        InputError: a field in `extra` is neither text, nor a number, nor a list of those.
    """
    if field == "categories":
        return " > ".join(product.categories)
    if field in PRODUCT_FIELDS:
        return getattr(product, field).strip()
    value = product.extra.get(field)
    values = value if isinstance(value, list) else [value]
    values = [item for item in values if item is not None]
    for item in values:
        if not isinstance(item, str | int | float):
            raise InputError(
                f"product {product.id!r}",
                f"{field} {value!r:.60}",
                "text, a number, or a list of those",
            )
    return ", ".join(str(item).strip() for item in values)


def join_fields(values: Mapping[str, str]) -> str:
    """Joins fields as "title. text. A > B > C. brand: Acme", with empty ones left out."""
    return ". ".join(
        value if field in PRODUCT_FIELDS else f"{field}: {value}"
        for field, value in values.items()
        if value
    )


def _read_records(
    path: str | PathLike[str],
) -> Iterator[tuple[str, int, bytes | dict[str, Any]]]:
    """Yields (what to append to the path in messages, line or row number, record)."""
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
        with unchanged(path), pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            require_fields(dict.fromkeys(names), _REQUIRED, str(path))
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise InputError(path, f"several columns named {twice!r}", "one of each name")
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH):
                columns = [_values(column) for column in batch.columns]
                yield from (
                    dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)
                )
    except FileNotFoundError as error:
        raise InputError(path, "no such file", "a file to read") from error
    except InputError:  # a ValueError that already says what is wrong
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(path, f"{reason:.200}", "a readable Parquet") from error


def _values(column: Any) -> list[Any]:
    """The values of a column; where Python has none, something that JSON has not either."""
    try:
        return column_values(column)
    except NoJsonError:
        return [None if missing else Ellipsis for missing in column.is_null().to_pylist()]


def _own_field(value: Any) -> Any:
    """A field that every product has, whose text some programs write as bytes."""
    try:
        return value if isinstance(value, float) else json_value(value)
    except NoJsonError:
        return value


def _parse_product(
    record: bytes | dict[str, Any], where: str, left_out: collections.Counter[str]
) -> Product:
    if isinstance(record, bytes):
        fields = parse_json_object(record, where, with_nan=True)
    else:
        fields = dict(record)
    require_fields(fields, _REQUIRED, where)
    for name in fields.keys() & {*_REQUIRED, "text"}:
        fields[name] = _own_field(fields[name])
    text = fields.pop("text", None)
    if text is not None and not isinstance(text, str):
        raise InputError(where, f"text {text!r:.60}", "text or null")
    product = Product(
        id=parse_id(fields.pop("id"), where),
        title=parse_text(fields.pop("title"), "title", where),
        text=text or "",
        categories=_parse_categories(fields.pop("categories"), where),
        extra=fields,
    )
    for name, value in fields.items():  # of a product that is kept
        try:
            fields[name] = json_value(value)
        except NoJsonError:
            fields[name] = None
            left_out[name] += 1
    return product


def _parse_categories(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise InputError(where, f"categories {value!r:.60}", "a list of names, root first")
    return tuple(parse_text(name, "category", where).strip() for name in value)


def _product_line(product: Product) -> str:
    where = f"product {product.id!r}"
    record = {
        "id": parse_id(product.id, where),
        "title": parse_text(product.title, "title", where),
        "text": product.text,
        "categories": list(_parse_categories(list(product.categories), where)),
    }
    return json_line({**record, **product.extra, **record}, where)


def _write_reject(
    file: IO[str], number: int, error: InputError, record: bytes | dict[str, Any]
) -> None:
    if isinstance(record, bytes):
        raw = record.decode("utf-8", errors="backslashreplace").rstrip("\r\n")
    else:
        raw = json.dumps(record, ensure_ascii=False, default=str)
    line = {"line": number, "error": str(error), "record": raw}
    file.write(json.dumps(line, ensure_ascii=False) + "\n")
