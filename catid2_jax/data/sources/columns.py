"""Tables with columns of any name: which of them is what."""

import dataclasses
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from catid2_jax.data.sources.dataset import Source
from catid2_jax.data.sources.judgements import read_judgements
from catid2_jax.errors import InputError

_OWN_NAMES = ("id", "title", "categories")
_LEVEL_END = "\x1f"  # in no name: cleaning takes control characters out


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnMap:
    """Names of the columns, and of the file of judgements.

    Attributes:
        id: column of the product's id.
        title: column of its title.
        categories: one column of lists or of text such as "Home > Kitchen > Cups", or one column
            per level, root first.
        separator: what parts the names in a column of text; white space around it goes.
        text: further columns that say what the product is, for `text`, each under its name.
        judgements: .parquet, .csv or .tsv with the columns query_id, query, product_id, label
            (E, S, C, I or 3 to 0) and maybe split (train, dev, test); empty for none.
    """

    id: str = "id"
    title: str = "title"
    categories: tuple[str, ...] = ("categories",)
    separator: str = ">"
    text: tuple[str, ...] = ()
    judgements: str = ""

    def __post_init__(self) -> None:
        if not self.categories or not self.separator:
            raise InputError("found no categories column or no separator, expected both")
        for name in self.text:
            if name in _OWN_NAMES:
                raise InputError(
                    f"found the text column {name!r}, expected none named {', '.join(_OWN_NAMES)}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to read."""
        return tuple(dict.fromkeys((self.id, self.title, *self.categories, *self.text)))


def mapped_source(batches: Iterable[pa.RecordBatch], columns: ColumnMap) -> Source:
    """A source from batches that have the columns named."""
    judgements = read_judgements(columns.judgements) if columns.judgements else ()
    return Source(_mapped(batches, columns), judgements)


def _mapped(batches: Iterable[pa.RecordBatch], columns: ColumnMap) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        arrays = {
            "id": batch.column(columns.id),
            "title": batch.column(columns.title),
            "categories": _paths([batch.column(name) for name in columns.categories], columns),
            **{name: batch.column(name) for name in columns.text},
        }
        yield pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))


def _paths(levels: list[pa.Array], columns: ColumnMap) -> pa.Array:
    if len(levels) > 1:
        names = [pc.fill_null(pc.cast(level, pa.string()), "") for level in levels]
        return pc.split_pattern(pc.binary_join_element_wise(*names, _LEVEL_END), _LEVEL_END)
    if pa.types.is_nested(levels[0].type):
        return levels[0]
    return pc.split_pattern(pc.cast(levels[0], pa.string()), columns.separator)
