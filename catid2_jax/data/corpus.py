"""The catalogue as columns: parsed once, then read by every later step.

A product's row is its one identity: row n of the catalogue, of the embeddings and of the table of
document IDs are the same product.
"""

import abc
import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catid2_jax.constraints import check_local
from catid2_jax.data.catalog import stream_products
from catid2_jax.data.lines import json_line
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write
from catid2_jax.types import Product, Qrels, Query

_SCHEMA = pa.schema(
    [
        ("source_row", pa.int64()),
        ("id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("extra", pa.string()),
    ]
)
_ROWS_AT_ONCE = 65_536  # of a part of the file
_PRODUCTS_AT_ONCE = 4096  # as Python's objects


class _Products(Sequence[Product]):
    """Products by row, of columns that `_columns` gives."""

    @overload
    def __getitem__(self, row: int) -> Product: ...

    @overload
    def __getitem__(self, row: slice) -> list[Product]: ...

    def __getitem__(self, row: int | slice) -> Product | list[Product]:
        if isinstance(row, slice):
            start, stop, step = row.indices(len(self))
            if step == 1:
                return list(self._between(start, stop))
            return [self[i] for i in range(start, stop, step)]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        return next(self._between(row % len(self), row % len(self) + 1))

    def __iter__(self) -> Iterator[Product]:
        return self._between(0, len(self))

    def _between(self, start: int, stop: int) -> Iterator[Product]:
        while start < stop:
            columns = self._columns(start, min(stop, start + _PRODUCTS_AT_ONCE))
            yield from map(_product, columns.to_pylist())
            start += len(columns)

    @abc.abstractmethod
    def _columns(self, start: int, stop: int) -> pa.Table:
        """The rows from `start` on, one or more, but none from `stop` on."""


class Catalog(_Products):
    """Products by row; a column is read without building the products.

    Attributes:
        table: source_row, id, title, text, categories and extra (further fields, as JSON).
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def from_products(cls, products: Iterable[Product]) -> "Catalog":
        """The catalogue of these products, whose rows in their source are their rows here."""
        batches = list(_batches(enumerate(products)))
        return cls(pa.Table.from_batches(batches, _SCHEMA))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Catalog":
        """Reads what `write_columns` wrote.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        with _readable(path):
            table = pq.read_table(path)
        _check_schema(path, table.schema)
        return cls(table)

    def __len__(self) -> int:
        return self.table.num_rows

    def _columns(self, start: int, stop: int) -> pa.Table:
        return self.table.slice(start, stop - start)

    @functools.cached_property
    def ids(self) -> list[str]:
        """Product id of each row."""
        return self.table["id"].to_pylist()

    @functools.cached_property
    def titles(self) -> list[str]:
        """Title of each row."""
        return self.table["title"].to_pylist()

    @functools.cached_property
    def paths(self) -> list[tuple[str, ...]]:
        """Category path of each row, root first."""
        return [tuple(path) for path in self.table["categories"].to_pylist()]

    @functools.cached_property
    def source_rows(self) -> np.ndarray:
        """Row of each product in the file it was read from, int64 [N]."""
        return self.table["source_row"].to_numpy()

    @functools.cached_property
    def rows(self) -> Mapping[str, int]:
        """Product id -> row."""
        return {product_id: row for row, product_id in enumerate(self.ids)}


class CatalogFile(_Products):
    """Products by row, read from the file when they are asked for.

    A part of the file at a time is in memory, at most 65,536 products as Parquet's columns, so that
    rows in their order cost the least.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens what `write_columns` wrote.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        self._path = path
        with _readable(path), pq.ParquetFile(path) as file:
            schema, parts = file.schema_arrow, file.metadata
            rows = [parts.row_group(part).num_rows for part in range(file.num_row_groups)]
        _check_schema(path, schema)
        self._starts = np.cumsum([0, *rows])
        self._part = functools.lru_cache(1)(self._read_part)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @functools.cached_property
    def source_rows(self) -> np.ndarray:
        """Row of each product in the file it was read from, int64 [N]."""
        with _readable(self._path), pq.ParquetFile(self._path) as file:
            return file.read(["source_row"])["source_row"].to_numpy()

    def _columns(self, start: int, stop: int) -> pa.Table:
        part = int(np.searchsorted(self._starts, start, "right")) - 1
        return self._part(part).slice(start - int(self._starts[part]), stop - start)

    def _read_part(self, part: int) -> pa.Table:
        with _readable(self._path), pq.ParquetFile(self._path) as file:
            return file.read_row_group(part)


class Corpus:
    """What an ID scheme or a retriever sees of the catalogue.

    Attributes:
        catalog: the products.
        queries: the training queries with their relevant products; None where they are unknown.
        encode_queries: makes vectors of queries, by the encoder of the embeddings; None where it
            makes none.
    """

    def __init__(
        self,
        catalog: Catalog,
        embeddings: np.ndarray | None = None,
        queries: "QuerySet | None" = None,
        encode_queries: Callable[[Sequence[str]], np.ndarray] | None = None,
    ) -> None:
        """Checks that there is an embedding per product.

        Args:
            catalog: N products.
            embeddings: float [N, D], maybe memory-mapped; None where nobody asks for them.
            queries: the training queries with their relevant products, none but the catalogue's;
                None where they are unknown.
            encode_queries: makes vectors [Q, D] of queries, by the encoder of the embeddings.

        Raises:
            InputError: another number of embeddings, or an array of another kind.
        """
        if embeddings is not None and (
            embeddings.ndim != 2 or embeddings.dtype.kind != "f" or len(embeddings) != len(catalog)
        ):
            raise InputError(
                "embeddings",
                f"{embeddings.dtype} {embeddings.shape}",
                f"floats [{len(catalog)}, width], a row per product",
            )
        self.catalog = catalog
        self._embeddings = embeddings
        self.queries = queries
        self.encode_queries = encode_queries

    @property
    def embeddings(self) -> np.ndarray:
        """Float [N, D], row n of product n.

        Raises:
            InputError: none were given.
        """
        if self._embeddings is None:
            raise InputError("embeddings", "none", "an array [products, width]")
        return self._embeddings

    def __len__(self) -> int:
        return len(self.catalog)


def read_catalog(
    path: str | os.PathLike[str],
    on_error: Literal["raise", "skip"] = "raise",
    rejects: str | os.PathLike[str] | None = None,
) -> Catalog:
    """Reads a whole catalogue; see `catalog.stream_products` for the form, arguments and errors."""
    return Catalog.from_products(stream_products(check_local(path, "path"), on_error, rejects))


def write_columns(path: str | os.PathLike[str], products: Iterable[tuple[int, Product]]) -> None:
    """Writes products as Parquet, streaming and atomically; the same products give the same bytes.

    Args:
        path: the file.
        products: (row in the source, product), in the order of their rows here.

    Raises:
        InputError: a field that is no valid text, or a further one that JSON does not have.
    """
    with atomic_write(path, "wb") as file, pq.ParquetWriter(file, _SCHEMA) as writer:
        for batch in _batches(products):
            writer.write_batch(batch)


@contextlib.contextmanager
def _readable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raises InputError for what Arrow cannot read."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(path, "no such file", "the catalogue that `prepare` writes") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(path, f"{error!s:.200}", "the catalogue that `prepare` writes") from error


def _check_schema(path: str | os.PathLike[str], schema: pa.Schema) -> None:
    if schema.remove_metadata() != _SCHEMA:
        raise InputError(
            path,
            f"the columns {', '.join(schema.names)}",
            "the catalogue that `prepare` writes",
        )


def _batches(products: Iterable[tuple[int, Product]]) -> Iterator[pa.RecordBatch]:
    rows: list[dict[str, Any]] = []
    for source_row, product in products:
        extra = json_line(dict(product.extra), f"product {product.id!r}") if product.extra else ""
        rows.append(
            {
                "source_row": source_row,
                "id": product.id,
                "title": product.title,
                "text": product.text,
                "categories": product.categories,
                "extra": extra,
            }
        )
        if len(rows) == _ROWS_AT_ONCE:
            yield _batch(rows)
            rows = []
    if rows:
        yield _batch(rows)


def _batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    try:
        return pa.RecordBatch.from_pylist(rows, _SCHEMA)
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise InputError("products", error, "fields of valid Unicode text") from error


def _product(row: Mapping[str, Any]) -> Product:
    extra = json.loads(row["extra"]) if row["extra"] else {}
    return Product(row["id"], row["title"], row["text"], tuple(row["categories"]), extra)


@dataclasses.dataclass(frozen=True)
class QuerySet:
    """Queries, what was judged for them, and their vectors where there are any.

    Attributes:
        queries: Q queries.
        qrels: query id -> product id -> grade.
        vectors: float [Q, D], made by the encoder of the products' embeddings; None if unknown.
    """

    queries: Sequence[Query]
    qrels: Qrels
    vectors: np.ndarray | None = None

    @property
    def ids(self) -> list[str]:
        """Id of each query."""
        return [query.id for query in self.queries]

    @property
    def texts(self) -> list[str]:
        """Text of each query."""
        return [query.text for query in self.queries]
