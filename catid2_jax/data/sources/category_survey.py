"""Looks at all category cells of a table before they are split, and says what seems wrong."""

import collections
from collections.abc import Iterable, Iterator, Mapping

from catid2_jax.data.sources.category_cells import (
    PATH_SEPARATORS,
    SEPARATORS,
    CellForm,
    Path,
    is_blank,
    parse_list,
    split,
)
from catid2_jax.errors import InputError

NONE = "none"
"""The separator of cells that nothing separates."""


class CategorySurvey:
    """Counts the texts of category cells, and settles what separates their names and paths.

    Args:
        separator: text between two names; NONE if a cell is one name.
        path_separator: text between two paths; NONE if a cell is one path, empty to settle it.
    """

    def __init__(self, separator: str, path_separator: str) -> None:
        self._separator = "" if separator == NONE else separator
        self._path_separator = path_separator
        self._form = CellForm(self._separator)
        self._counts: collections.Counter[str] = collections.Counter()
        self._first: dict[str, str] = {}
        self._lists = 0
        self._blanks: dict[str, int] = {}

    def add(self, cell: object, count: int, product: str) -> None:
        """Adds `count` equal cells, the first of which is that of `product`.

        Raises:
            ValueError: the cell is of no form that `CellForm.paths` knows.
        """
        value = parse_list(cell) if isinstance(cell, str) else cell
        blank = next(filter(str.strip, self._blank_names(value)), None)
        if blank is not None:
            self._blanks[blank.strip()] = self._blanks.get(blank.strip(), 0) + count
        text = _only_text(value)
        if text is None:
            self._lists += count
            self._form.paths(cell)
        elif text.strip():
            text = self._form.plain(text)
            self._counts[text] += count
            self._first.setdefault(text, product)

    def settle(self) -> tuple[CellForm, list[str]]:
        """Returns the form of the cells, and notes for the user about what may be wrong with it.

        Raises:
            InputError: the separator is in no cell, and another usual one is in most of them.
        """
        path_separator, notes = self._path_separator, list[str]()
        if path_separator == NONE:
            path_separator = ""
        elif not path_separator:
            path_separator, notes = self._settle_path_separator()
        doubts = self._doubts_of_separator(path_separator)
        form = CellForm(self._separator, path_separator)
        return form, [*doubts, *notes, *note_of_blanks(self._blanks)]

    def _blank_names(self, value: object) -> Iterator[str]:
        if isinstance(value, str):
            names = [value] if is_blank(value) else split(value, self._separator)
            yield from filter(is_blank, names)
        elif isinstance(value, Mapping | list | tuple):
            for item in value.values() if isinstance(value, Mapping) else value:
                yield from self._blank_names(item)

    def _settle_path_separator(self) -> tuple[str, list[str]]:
        """Takes a usual one that is escaped in names, or after which most cells have a root."""
        notes = []
        for end in PATH_SEPARATORS:
            holding = [cell for cell in self._counts if len(_filled(split(cell, end))) > 1]
            if end in self._separator or self._separator in ("", end) or not holding:
                continue
            sure = [*self._with_roots(holding, end)]
            escaped = any(len(split(cell, end)) <= cell.count(end) for cell in self._counts)
            if escaped or 2 * len(sure) > len(holding):
                what = f"several paths, separated by {end!r}, in {self._example(holding)}"
                return end, [f"{what}; path_separator={NONE} makes one path of each cell"]
            doubtful = dict.fromkeys([*sure, *self._with_nodes(holding, end)])
            if doubtful:
                what = f"perhaps several paths, separated by {end!r}, in {self._example(doubtful)}"
                notes.append(f"{what}; path_separator={end!r} splits them, {NONE} ends this note")
        return "", notes

    def _with_roots(self, holding: Iterable[str], end: str) -> Iterator[str]:
        """Yields the cells whose parts all begin with the first name of some cell."""
        roots = {self._names(split(cell, end)[0])[:1] for cell in self._counts}
        for cell in holding:
            parts = [self._names(part) for part in _filled(split(cell, end))[1:]]
            if all(part[:1] in roots for part in parts):
                yield cell

    def _with_nodes(self, holding: Iterable[str], end: str) -> Iterator[str]:
        """Yields the cells whose parts all have several names, or whose first is another's path."""
        nodes: set[Path] = set()
        for cell in self._counts.keys() - set(holding):
            names = self._names(cell)
            nodes.update(names[: depth + 1] for depth in range(len(names)))
        for cell in holding:
            parts = [self._names(part) for part in _filled(split(cell, end))]
            if all(len(part) > 1 for part in parts) or (len(parts[0]) > 1 and parts[0] in nodes):
                yield cell

    def _doubts_of_separator(self, path_separator: str) -> list[str]:
        total, given = sum(self._counts.values()) + self._lists, self._separator
        if not self._counts or not given:
            return []
        having = self._weight(given) + self._lists
        usual = (other for other in SEPARATORS if other not in (given, path_separator))
        other = next((other for other in usual if 2 * self._weight(other) > total), None)
        if other and not having:
            raise InputError(
                "separator",
                f"{given!r} in none of {total:,} category cells, but {other!r} in most, such as "
                f"{next(iter(self._counts))!r:.60}",
                f"{other!r}, or {NONE} if each cell is one name",
            )
        if other and 2 * having <= total:
            share = f"{having:,} of {total:,} category cells"
            return [f"the separator {given!r} is in {share}, but {other!r} is in most"]
        if not having:
            return [f"the separator {given!r} is in none of {total:,} category cells"]
        return []

    def _weight(self, separator: str) -> int:
        return sum(n for c, n in self._counts.items() if len(_filled(split(c, separator))) > 1)

    def _names(self, text: str) -> Path:
        return next(iter(self._form.paths_of_text(text)), ())

    def _example(self, cells: Mapping[str, object] | list[str]) -> str:
        first = next(iter(cells))
        count = sum(self._counts[cell] for cell in cells)
        return (
            f"{count:,} category cells, such as {first!r:.80} of product {self._first[first]!r:.60}"
        )


def note_of_blanks(counts: Mapping[str, int]) -> list[str]:
    """Returns a note of texts that were taken as no name, if there are some.

    Args:
        counts: the texts, and how many cells have each.
    """
    if not counts:
        return []
    texts = ", ".join(map(repr, counts))
    return [f"{texts} in {sum(counts.values()):,} category cells is taken as no name"]


def _filled(parts: list[str]) -> list[str]:
    return [part for part in parts if part.strip()]


def _only_text(cell: object) -> str | None:
    """Returns a cell's text, or that of a list of one; None for other lists."""
    while isinstance(cell, list | tuple) and len(cell) == 1:
        cell = cell[0]
    return "" if cell is None else cell if isinstance(cell, str) else None
