"""Turns a column of category cells into a path for each product, once all of them were seen."""

import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catid2_jax.data.sources.category_cells import CellForm, Path
from catid2_jax.data.sources.category_survey import CategorySurvey
from catid2_jax.data.text import clean_text
from catid2_jax.errors import InputError

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
        self._survey = CategorySurvey(separator, path_separator)

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
            count = 0
            for batch in batches:
                self._add(batch)
                with pa.ipc.new_stream(file, batch.schema, options=_COMPRESSED) as writer:
                    writer.write_batch(batch)
                count += 1
            form, found = self._survey.settle()
            notes += found
            several = self._survey.has_several(form)
            file.seek(0)
            for _ in range(count):
                with pa.ipc.open_stream(file) as reader:
                    for batch in reader:
                        kept, others = self._paths(batch, form)
                        yield batch, kept, others if several else None

    def _add(self, batch: pa.RecordBatch) -> None:
        column = batch.column(self._name)
        try:
            if pa.types.is_map(column.type):
                raise TypeError("a map has no order")
            cells, rows = _distinct(column)
        except (pa.ArrowException, TypeError) as error:
            raise self._wrong(batch, column[0].as_py(), 0) from error
        first, counts = np.unique(rows, return_index=True, return_counts=True)[1:]
        for cell, row, count in zip(cells, first.tolist(), counts.tolist(), strict=True):
            with_product = batch.column(self._ids)[row].as_py()
            try:
                self._survey.add(cell, count, str(with_product))
            except ValueError as error:
                raise self._wrong(batch, cell, row) from error

    def _paths(self, batch: pa.RecordBatch, form: CellForm) -> tuple[pa.Array, pa.Array]:
        cells, rows = _distinct(batch.column(self._name))
        found = []
        for place, cell in enumerate(cells):
            try:
                found.append(self._choose(form.paths(cell)))
            except ValueError as error:
                raise self._wrong(batch, cell, int(np.argmax(rows == place))) from error
        kind = pa.list_(pa.string())
        kept, others = (pa.array([pair[i] for pair in found], kind) for i in (0, 1))
        return kept.take(pa.array(rows)), others.take(pa.array(rows))

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

    def _wrong(self, batch: pa.RecordBatch, cell: Any, row: int) -> InputError:
        kind, product = batch.column(self._name).type, batch.column(self._ids)[row].as_py()
        return InputError(
            f"products: column {self._name!r} of type {kind}",
            f"{cell!r:.60} of product {product!r:.60}",
            "a path as text, a list of names, a list of paths, or objects with a name",
        )


def _distinct(column: pa.Array) -> tuple[list[Any], np.ndarray]:
    """Returns the different cells of a column, and the number of each row's cell, [rows]."""
    if not pa.types.is_nested(column.type):
        texts = pc.cast(column, pa.string())
        texts.validate(full=True)
        encoded = pc.dictionary_encode(texts, null_encoding="encode")
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    numbers: dict[str, int] = {}
    cells: list[Any] = []
    rows: list[int] = []
    for cell in column.to_pylist():
        rows.append(numbers.setdefault(repr(cell), len(numbers)))
        if rows[-1] == len(cells):
            cells.append(cell)
    return cells, np.array(rows, np.int64)


def _depth(path: Path) -> int:
    return sum(map(bool, path))
