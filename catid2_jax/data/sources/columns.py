"""Maps the columns of a table, whatever their names, to those of a `Source`."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from catid2_jax.constraints import LocalPath
from catid2_jax.data.sources.category_cells import NO_NAMES
from catid2_jax.data.sources.category_columns import CategoryColumn
from catid2_jax.data.sources.category_survey import note_of_blanks
from catid2_jax.data.sources.conversion import as_ids, as_raw_cells, as_text
from catid2_jax.data.sources.dataset import OTHER_CATEGORIES, Source
from catid2_jax.data.sources.judgements import read_judgements
from catid2_jax.errors import InputError
from catid2_jax.progress import console

_OWN_NAMES = ("id", "title", "categories", OTHER_CATEGORIES)
_LEVEL_END = "\x1f"  # a control character, so no part of a cleaned name


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnMap:
    """Names of the columns to read, and the file of judgements.

    Attributes:
        id: column of the product ids.
        title: column of the product titles.
        categories: one column of lists, one of text such as "Home > Kitchen > Cups", or one column
            per level, root first; a name that several columns share is given as often.
        separator: text between two names where one column holds the path as text; white space
            around it is removed, and after a backslash it belongs to the name. "none" if each text
            is one name.
        path_separator: text between two paths where one cell holds several. Left empty, it is found
            out: by backslashes before it or roots of other paths after it. "none" if each cell is
            one path.
        kept_path: which of a cell's paths is the product's: "deepest" (the first of those), or
            "first". The others, but for parts of it, go into the field `other_categories`.
        text: further columns that describe the product; its text lists their values, each after
            the name of its column.
        judgements: .parquet, .csv or .tsv file with the columns query_id, query, product_id, label
            (E, S, C, I or 3 to 0) and optionally split (train, dev, test); empty for none.
        judgements_delimiter: one character, or "tab"; empty finds it in the file's header.
        judgements_encoding: the encoding of the file of judgements; empty for UTF-8, or for that
            of the products if the file is not UTF-8.

    Raises:
        InputError: no categories column, an empty separator, another path to keep, or a text column
            whose name is taken.
    """

    id: str = "id"
    title: str = "title"
    categories: tuple[str, ...] = ("categories",)
    separator: str = ">"
    path_separator: str = ""
    kept_path: str = "deepest"
    text: tuple[str, ...] = ()
    judgements: LocalPath = ""
    judgements_delimiter: str = ""
    judgements_encoding: str = ""

    def __post_init__(self) -> None:
        if not self.categories:
            raise InputError("categories", "no column", "at least one")
        if not self.separator:
            raise InputError("separator", "''", "at least one character")
        if self.kept_path not in ("deepest", "first"):
            raise InputError("kept_path", repr(self.kept_path), "'deepest' or 'first'")
        for name in self.text:
            if name in _OWN_NAMES:
                raise InputError(
                    "text", f"the column {name!r}", f"none named {', '.join(_OWN_NAMES)}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to read: those of categories as often as given, the others once."""
        others = dict.fromkeys((self.id, self.title, *self.text))
        return (*(name for name in others if name not in self.categories), *self.categories)


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
    return categorized_source(mapped_batches(batches, columns, where), columns, encoding)


def categorized_source(
    batches: Iterable[pa.RecordBatch], columns: ColumnMap, encoding: str = "utf-8"
) -> Source:
    """Returns a source of batches of `mapped_batches`, whose category cells become paths.

    Where one column holds the categories, all rows are read into a temporary file first, because
    the form of the cells is settled by all of them.

    Raises:
        InputError: while iterating, at a category cell of no known form, or see `CategorySurvey`.
    """
    by = _by_cell if len(columns.categories) == 1 else _by_level
    return Source(by(batches, columns), judgements_of(columns, encoding))


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
    """Yields batches under the names that a `Source` has, each column converted but category cells.

    Raises:
        InputError: a column that cannot be converted (named, with `where`), see `conversion`.
    """
    row = 1
    for batch in batches:

        def text(name: str, batch: pa.RecordBatch = batch, row: int = row) -> pa.Array:
            return as_text(batch.column(name), name, where, row)

        places = {name: batch.schema.get_all_field_indices(name) for name in columns.categories}
        cells = [batch.column(places[name].pop(0)) for name in columns.categories]
        arrays = [
            as_ids(batch.column(columns.id), columns.id, where, row),
            text(columns.title),
            *(as_raw_cells(c, n, where) for c, n in zip(cells, columns.categories, strict=True)),
            *map(text, columns.text),
        ]
        row += len(batch)
        names = ["id", "title", *["categories"] * len(cells), *columns.text]
        yield pa.RecordBatch.from_arrays(arrays, names)


def _by_level(batches: Iterable[pa.RecordBatch], columns: ColumnMap) -> Iterator[pa.RecordBatch]:
    blanks: collections.Counter[str] = collections.Counter()
    for batch in batches:
        levels = [batch.column(2 + level) for level in range(len(columns.categories))]
        names = [pc.fill_null(as_text(level, "categories", "products"), "") for level in levels]
        for place, name in enumerate(map(pc.utf8_trim_whitespace, names)):
            blank = pc.is_in(pc.utf8_lower(name), pa.array(NO_NAMES))
            blanks.update(name.filter(blank).to_pylist())
            names[place] = pc.if_else(blank, "", names[place])
        joined = pc.binary_join_element_wise(*names, _LEVEL_END)
        yield _mapped(batch, columns, {"categories": pc.split_pattern(joined, _LEVEL_END)})
    _print_notes(note_of_blanks(blanks))


def _by_cell(batches: Iterable[pa.RecordBatch], columns: ColumnMap) -> Iterator[pa.RecordBatch]:
    notes: list[str] = []
    column = CategoryColumn(
        "categories",
        "id",
        columns.separator,
        columns.path_separator,
        columns.kept_path,
    )
    for batch, paths, others in column.read(batches, notes):
        _print_notes(notes)
        notes.clear()
        further = {} if others is None else {OTHER_CATEGORIES: others}
        yield _mapped(batch, columns, {"categories": paths, **further})


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        console.print(f"note: {note}", markup=False)


def _mapped(
    batch: pa.RecordBatch, columns: ColumnMap, categories: dict[str, pa.Array]
) -> pa.RecordBatch:
    arrays = {
        "id": batch.column("id"),
        "title": batch.column("title"),
        **categories,
        **{name: batch.column(name) for name in columns.text},
    }
    return pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))
