"""What the readers of shops' own exports share: columns of several names, batches, a source."""

import dataclasses
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from catid2_jax.constraints import LocalPath
from catid2_jax.data.sources.columns import ColumnMap, mapped_source
from catid2_jax.data.sources.dataset import ProductCounts, Source
from catid2_jax.data.sources.reading import BATCH_ROWS, csv_batches, csv_header, require_columns

Row = dict[str, str]

_FORMULA = re.compile(r"\A'(?=[=+\-@\t\r])")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShopExport:
    """A file as a shop exports it, plain or compressed (.gz, .zst).

    Attributes:
        path: the file.
        encoding: the file's encoding under Python's name for it, such as latin-1 or cp1252.
        separator: text between two names of a category path; "none" if each cell is one name.
        path_separator: text between two paths of a cell; "none" if each cell is one path. Left
            empty, it is found out.
        judgements: .parquet, .csv or .tsv file with the columns query_id, query, product_id, label
            (E, S, C, I or 3 to 0) and optionally split (train, dev, test); empty for none.
    """

    path: LocalPath
    encoding: str = "utf-8"
    separator: str = ">"
    path_separator: str = ""
    judgements: LocalPath = ""


def export_rows(
    export: ShopExport,
    columns: Mapping[str, Sequence[str]],
    required: Collection[str],
    delimiter: str = ",",
) -> Iterator[Row]:
    """Yields the rows of an export under names of our own.

    Args:
        export: the file.
        columns: own name -> the names that editions of the export give to the column.
        required: own names of columns that the file must have.
        delimiter: the character between two cells.

    Yields:
        Own name -> cell, "" where the file has no such column. The apostrophe by which shops keep
        spreadsheets from reading a cell as a formula is left out.

    Raises:
        InputError: a column is missing, or see `csv_batches`.
    """
    header = csv_header(export.path, delimiter, export.encoding)
    found = {}
    for own, names in columns.items():
        there = next((name for name in names if name in header), None)
        if there is not None:
            found[own] = there
        elif own in required:
            require_columns([names[0]], header, export.path)
    batches = csv_batches(export.path, list(found.values()), delimiter, export.encoding)
    for batch in batches:
        cells = (column.to_pylist() for column in batch.columns)
        for values in zip(*cells, strict=True):
            row = dict.fromkeys(columns, "")
            plain = (_FORMULA.sub("", value).strip() for value in values)
            row |= dict(zip(found, plain, strict=True))
            yield row


def export_source(
    export: ShopExport,
    products: Iterable[Mapping[str, object]],
    counts: ProductCounts,
    categories: pa.DataType,
    text: Sequence[str],
) -> Source:
    """Returns a source of products that a reader of an export yields.

    Args:
        export: the file.
        products: have `id`, `title`, `categories` and the names in `text`.
        counts: what the reader counts.
        categories: type of the category cells.
        text: names of the fields of the product's text.
    """
    kinds = {"id": pa.string(), "title": pa.string(), "categories": categories}
    schema = pa.schema({**kinds, **dict.fromkeys(text, pa.string())})
    columns = ColumnMap(
        text=tuple(text),
        separator=export.separator,
        path_separator=export.path_separator,
        judgements=export.judgements,
    )
    source = mapped_source(_batches(products, schema), columns)
    return dataclasses.replace(source, counts=counts)


def _batches(
    products: Iterable[Mapping[str, object]], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    products = iter(products)
    while rows := list(itertools.islice(products, BATCH_ROWS)):
        yield pa.RecordBatch.from_pylist(rows, schema)
