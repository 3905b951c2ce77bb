"""Maps the columns of a table, whatever their names, to those of a `Source`."""

import dataclasses
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from catid2_jax.data.sources.conversion import as_category_cells, as_ids, as_text
from catid2_jax.data.sources.dataset import Source
from catid2_jax.data.sources.judgements import read_judgements
from catid2_jax.errors import InputError

_OWN_NAMES = ("id", "title", "categories")
_LEVEL_END = "\x1f"  # a control character, so no part of a cleaned name


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnMap:
    """Names of the columns to read, and the file of judgements.

    Attributes:
        id: column of the product ids.
        title: column of the product titles.
        categories: one column of lists, one of text such as "Home > Kitchen > Cups", or one column
            per level, root first.
        separator: text between two names where one column holds the path as text; white space
            around it is removed.
        text: further columns that describe the product; its text lists their values, each after
            the name of its column.
        judgements: .parquet, .csv or .tsv file with the columns query_id, query, product_id, label
            (E, S, C, I or 3 to 0) and optionally split (train, dev, test); empty for none.
        judgements_delimiter: one character, or "tab"; empty finds it in the file's header.
        judgements_encoding: the encoding of the file of judgements; empty for UTF-8, or for that
            of the products if the file is not UTF-8.

    Raises:
        InputError: no categories column, an empty separator, or a text column whose name is taken.
    """

    id: str = "id"
    title: str = "title"
    categories: tuple[str, ...] = ("categories",)
    separator: str = ">"
    text: tuple[str, ...] = ()
    judgements: str = ""
    judgements_delimiter: str = ""
    judgements_encoding: str = ""

    def __post_init__(self) -> None:
        if not self.categories:
            raise InputError("categories", "no column", "at least one")
        if not self.separator:
            raise InputError("separator", "''", "at least one character")
        for name in self.text:
            if name in _OWN_NAMES:
                raise InputError(
                    "text", f"the column {name!r}", f"none named {', '.join(_OWN_NAMES)}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to read, each once."""
        return tuple(dict.fromkeys((self.id, self.title, *self.categories, *self.text)))


def mapped_source(
    batches: Iterable[pa.RecordBatch],
    columns: ColumnMap,
    where: object = "products",
    encoding: str = "utf-8",
) -> Source:
    """Returns a source of batches that have the columns named in `columns`.

    Args:
        batches: the products.
        columns: which columns are read.
        where: the file or the like that the batches are of, for errors.
        encoding: that of the products, if their file has one.
    """
    return Source(mapped_batches(batches, columns, where), judgements_of(columns, encoding))


def judgements_of(columns: ColumnMap, encoding: str = "utf-8") -> Iterable[pa.RecordBatch]:
    """Returns the batches of the file of judgements; none without a file.

    Args:
        columns: names the file.
        encoding: that of the products, if their file has one.
    """
    if not columns.judgements:
        return ()
    told = columns.judgements_delimiter, columns.judgements_encoding
    return read_judgements(columns.judgements, *told, products_encoding=encoding)


def mapped_batches(
    batches: Iterable[pa.RecordBatch], columns: ColumnMap, where: object
) -> Iterator[pa.RecordBatch]:
    """Yields batches under the names that a `Source` has, each column converted.

    Raises:
        InputError: a column that cannot be converted (named, with `where`), see `conversion`.
    """
    row = 1
    for batch in batches:

        def text(name: str, batch: pa.RecordBatch = batch, row: int = row) -> pa.Array:
            return as_text(batch.column(name), name, where, row)

        cells = [as_category_cells(batch.column(n), n, where) for n in columns.categories]
        arrays = {
            "id": as_ids(batch.column(columns.id), columns.id, where, row),
            "title": text(columns.title),
            "categories": _paths(cells, columns),
            **{name: text(name) for name in columns.text},
        }
        row += len(batch)
        yield pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))


def _paths(levels: list[pa.Array], columns: ColumnMap) -> pa.Array:
    if len(levels) > 1:
        names = [pc.fill_null(pc.cast(level, pa.string()), "") for level in levels]
        return pc.split_pattern(pc.binary_join_element_wise(*names, _LEVEL_END), _LEVEL_END)
    if pa.types.is_nested(levels[0].type):
        return levels[0]
    return pc.split_pattern(pc.cast(levels[0], pa.string()), columns.separator)
