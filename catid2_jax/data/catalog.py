"""The catalogue: products in JSON Lines or Parquet, read record by record and checked."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from typing import IO, Any, Literal

from catid2_jax.data.lines import (
    JSON_SUFFIXES,
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
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write
from catid2_jax.types import Product

PARQUET_SUFFIX = ".parquet"

PRODUCT_FIELDS = ("title", "text", "categories")
"""What every product has and is read for."""

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
    """All that a catalogue says of a product by fields of its own.

    Args:
        product: the product.
        with_categories: adds the category path; the paper's Table 4 compares both.

    Returns:
        "title. text. A > B > C", without what is empty.
    """
    fields = PRODUCT_FIELDS if with_categories else PRODUCT_FIELDS[:-1]
    return join_fields({field: field_value(product, field) for field in fields})


def field_value(product: Product, field: str) -> str:
    """A field of a product as text: its title, its text, its path as "A > B > C", or a further one.

    Raises:
        InputError: a further field that is neither text nor a number, nor a list of those.
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
                f"product {product.id!r}: found {field} {value!r:.60}, expected text, a number, or "
                "a list of those"
            )
    return ", ".join(str(item).strip() for item in values)


def join_fields(values: Mapping[str, str]) -> str:
    """Values in one text, "title. text. A > B > C. brand: Acme", without what is empty."""
    return ". ".join(
        value if field in PRODUCT_FIELDS else f"{field}: {value}"
        for field, value in values.items()
        if value
    )


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
        with unchanged(path), pyarrow.parquet.ParquetFile(path) as file:
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
