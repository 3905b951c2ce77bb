"""Turns a column of category cells into a path for each product, once all of them were seen."""

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catid2_jax.data.sources.category_cells import Path
from catid2_jax.data.sources.category_survey import CategorySurvey
from catid2_jax.data.text import clean_text
from catid2_jax.errors import InputError

_LEVEL_END = "\x1f"  # a control character, so no part of a cleaned name
_LISTS_OF_TEXT = (pa.list_(pa.string()), pa.large_list(pa.string()))
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


class CategoryColumn:
    """Reads one column of category cells, as `CategorySurvey` settles their form.

    Args:
        name: the column.
        ids: the column of product ids, which errors and notes name.
        separator: see `CategorySurvey`.
        path_separator: see `CategorySurvey`.
        kept_path: which path of a cell is the product's, "deepest" or "first".
    """

    def __init__(
        self, name: str, ids: str, separator: str, path_separator: str, kept_path: str
    ) -> None:
        self._name, self._ids, self._kept_path = name, ids, kept_path
        self._separator, self._path_separator = separator, path_separator
        self._numbers: dict[str, int] = {}  # key of each different cell -> its number
        self._cells: list[_Cell] = []

    def read(
        self, batches: Iterable[pa.RecordBatch], notes: list[str]
    ) -> Iterator[tuple[pa.RecordBatch, pa.Array, pa.Array | None]]:
        """Yields each batch with its products' paths and their other paths.

        All batches are kept in a temporary file until the last has been seen.

        Args:
            batches: what a reader yields.
            notes: gets what may be wrong with the cells, before the first batch is yielded.

        Yields:
            The batch; a list of names for each row; and a list of further paths such as "A > B" for
            each row, or None if no row of any batch has several.

        Raises:
            InputError: a cell of no known form, or see `CategorySurvey.settle`.
        """
        with tempfile.TemporaryFile() as file:
            numbers = []
            for batch in batches:
                numbers.append(self._number_rows(batch))
                with pa.ipc.new_stream(file, batch.schema, options=_COMPRESSED) as writer:
                    writer.write_batch(batch)
            kept, others = self._choose_paths(notes)
            file.seek(0)
            for rows in numbers:
                with pa.ipc.open_stream(file) as reader:
                    for batch in reader:
                        several = others.null_count < len(others)
                        yield batch, kept.take(rows), others.take(rows) if several else None

    def _number_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Adds the cells of a batch to those seen, and returns the number of each row's."""
        column, ids = batch.column(self._name), batch.column(self._ids)
        if not len(column):
            return pa.array([], pa.int32())
        try:
            keys, cells, rows = _distinct(column)
        except (pa.ArrowException, TypeError) as error:
            raise self._wrong(_Cell(column[0].as_py(), column.type, ids[0].as_py())) from error
        places = []
        for key, cell, count, row in zip(keys, cells, *_counts_and_first(rows), strict=True):
            if key not in self._numbers:
                self._numbers[key] = len(self._cells)
                self._cells.append(_Cell(cell, column.type, ids[row].as_py()))
            self._cells[self._numbers[key]].count += count
            places.append(self._numbers[key])
        return pa.array(np.array(places, np.int32)[rows])

    def _choose_paths(self, notes: list[str]) -> tuple[pa.Array, pa.Array]:
        """Returns the path and the other paths of each different cell."""
        survey = CategorySurvey(self._separator, self._path_separator)
        for cell in self._cells:
            try:
                survey.add(cell.value, cell.count, str(cell.product))
            except ValueError as error:
                raise self._wrong(cell) from error
        form, found = survey.settle()
        notes += found
        chosen = [self._choose(form.paths(cell.value)) for cell in self._cells]
        kept, others = ([pair[place] for pair in chosen] for place in (0, 1))
        return pa.array(kept, pa.list_(pa.string())), pa.array(others, pa.list_(pa.string()))

    def _choose(self, paths: list[Path]) -> tuple[Path | None, list[str] | None]:
        """Returns the product's path, and the others that are no part of another."""
        if not paths:
            return None, None
        kept = paths[0] if self._kept_path == "first" else max(paths, key=_depth)
        others = dict.fromkeys(
            path
            for path in paths
            if path != kept and not any(path == o[: len(path)] for o in paths if o != path)
        )
        names = ([clean_text(name) for name in path] for path in others)
        return kept, [" > ".join(filter(None, path)) for path in names] or None

    def _wrong(self, cell: "_Cell") -> InputError:
        return InputError(
            f"products: column {self._name!r} of type {cell.kind}",
            f"{cell.value!r:.60} of product {cell.product!r:.60}",
            "a path as text, a list of names, a list of paths, or objects with a name",
        )


@dataclasses.dataclass
class _Cell:
    """One of the different cells: its value and type, the first product with it, how many have."""

    value: Any
    kind: pa.DataType
    product: Any
    count: int = 0


def _distinct(column: pa.Array) -> tuple[list[str], list[Any], np.ndarray]:
    """Returns a key and the value of each different cell, and the place of each row's, [rows]."""
    if pa.types.is_map(column.type):
        raise TypeError("a map has no order")
    if not pa.types.is_nested(column.type):
        texts = pc.cast(column, pa.string())
        texts.validate(full=True)
        cells, rows = _encoded(texts)
        return list(map(repr, cells)), cells, rows
    if column.type in _LISTS_OF_TEXT:
        joined = pc.binary_join(column.cast(pa.list_(pa.string())), _LEVEL_END)
        if joined.null_count == column.null_count:  # no name is null
            cells, rows = _encoded(joined)
            lists = [None if cell is None else cell.split(_LEVEL_END) for cell in cells]
            return [f"{cell!r} joined" for cell in cells], lists, rows
    values = {repr(cell): cell for cell in column.to_pylist()}
    places = {key: place for place, key in enumerate(values)}
    rows = np.array([places[repr(cell)] for cell in column.to_pylist()], np.int64)
    return list(values), list(values.values()), rows


def _encoded(texts: pa.Array) -> tuple[list[str | None], np.ndarray]:
    encoded = pc.dictionary_encode(texts, null_encoding="encode")
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _counts_and_first(rows: np.ndarray) -> tuple[list[int], list[int]]:
    """Returns how often each number occurs, and the first row with it."""
    _, first, counts = np.unique(rows, return_index=True, return_counts=True)
    return counts.tolist(), first.tolist()


def _depth(path: Path) -> int:
    return sum(map(bool, path))
