"""Filters of a request: which documents it may find, by product id and by category."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from catid2_jax.data.ids import canonical_id
from catid2_jax.data.lines import (
    JSON_SUFFIXES,
    decode_line,
    parse_id,
    parse_json_object,
    parse_text,
    read_lines,
    require_fields,
)
from catid2_jax.errors import InputError

_NAMED = 10  # the most unknown ids or categories that a message names

Path = tuple[str, ...]
"""The names of a category and those above it, root first; it covers all documents beneath it."""


@dataclasses.dataclass(frozen=True)
class Filter:
    """The conditions on the documents that a request may find; a document must meet all of them.

    None is no condition. An empty `allow_ids` or `allow_categories` allows no document.

    Attributes:
        allow_ids: ids of the only products allowed.
        deny_ids: ids of products that are not allowed.
        allow_categories: categories of which a product must be in one or below it.
        deny_categories: categories in which, and below which, no product is allowed.
    """

    allow_ids: Sequence[str] | None = None
    deny_ids: Sequence[str] | None = None
    allow_categories: Sequence[Path] | None = None
    deny_categories: Sequence[Path] | None = None

    @property
    def has_categories(self) -> bool:
        """Whether a condition is about categories."""
        return self.allow_categories is not None or self.deny_categories is not None


FIELDS = tuple(field.name for field in dataclasses.fields(Filter))
"""The names of the conditions: allow or deny, and ids or categories."""


def parse_filter(fields: Mapping[str, Any], where: str) -> Filter | None:
    """Reads a filter from the fields of a JSON object.

    Args:
        fields: the object. Fields named like `Filter`'s attributes are lists of ids or categories,
            a category being a list of names or a text such as "Garden > Tools"; others are ignored.
        where: the object's place, for error messages.

    Returns:
        The filter; None if the object has no such field.

    Raises:
        InputError: such a field is not a list, or an entry is no id or no category.
    """
    given: dict[str, Any] = {}
    for name in FIELDS:
        if name not in fields:
            continue
        value, parse = fields[name], parse_id if name.endswith("ids") else parse_path
        if not isinstance(value, list):
            raise InputError(where, f"{name} {value!r:.60}", "a list")
        given[name] = tuple(parse(entry, where) for entry in value)
    return Filter(**given) if given else None


def read_filter(paths: Mapping[str, str | PathLike[str]]) -> Filter | None:
    """Reads a filter from files, one per condition.

    A file is a text with an id or a category ("Garden > Tools") per line or, if its suffix is among
    `JSON_SUFFIXES`, JSON Lines with the field `id` or `categories`, such as a catalogue.

    Args:
        paths: the files, by the names of `Filter`'s attributes; an empty path is no condition.

    Returns:
        The filter; None if all paths are empty.

    Raises:
        InputError: a file cannot be read, or a line (named by its number) is no id or no category.
    """
    given: dict[str, Any] = {}
    for name, path in paths.items():
        if path:
            field, parse = ("id", parse_id) if name.endswith("ids") else ("categories", parse_path)
            given[name] = _read_entries(path, field, parse)
    return Filter(**given) if given else None


def without_unknown_ids(conditions: Filter, known: Collection[str]) -> tuple[Filter, int]:
    """Leaves out the ids that no product has, such as those of products that were sold out.

    Args:
        conditions: the filter.
        known: ids of the products.

    Returns:
        The filter, and how many ids were left out.
    """
    kept = {
        name: tuple(i for i in getattr(conditions, name) if i in known)
        for name in ("allow_ids", "deny_ids")
        if getattr(conditions, name) is not None
    }
    left_out = sum(len(getattr(conditions, name)) - len(ids) for name, ids in kept.items())
    return dataclasses.replace(conditions, **kept), left_out


def parse_path(value: Any, where: str) -> Path:
    """Parses a category, which is a list of names or a text such as "Garden > Tools".

    Raises:
        InputError: the value is neither, is empty, or has an empty name.
    """
    names = value.split(">") if isinstance(value, str) else value
    if not isinstance(names, list) or not names:
        raise InputError(
            where,
            f"category {value!r:.60}",
            "a list of names, root first, or a text such as 'Garden > Tools'",
        )
    return tuple(parse_text(name, "category", where).strip() for name in names)


def _read_entries(
    path: str | PathLike[str], field: str, parse: Callable[[Any, str], Any]
) -> tuple[Any, ...]:
    """Reads one id or category per line."""
    entries = []
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        if str(path).endswith(JSON_SUFFIXES):
            record = parse_json_object(line, where)
            require_fields(record, (field,), where)
            entries.append(parse(record[field], where))
        else:
            text = decode_line(line, where).strip()
            entries.append(parse(_canonical(text, where) if field == "id" else text, where))
    return tuple(entries)


def _canonical(text: str, where: str) -> str:
    try:
        return canonical_id(text)
    except InputError as error:
        raise error.within(where) from error


class FilterIndex:
    """An index of a table's documents by id and by category."""

    def __init__(self, ids: Sequence[str], paths: Iterable[Sequence[str]] = ()) -> None:
        """Builds the index.

        Args:
            ids: the ids of the N documents, in the table's order.
            paths: the documents' category paths, root first; empty if no filter has categories.
        """
        self._rows = {product_id: row for row, product_id in enumerate(ids)}
        self._beneath: dict[Path, list[int]] = {}
        for row, path in enumerate(paths):
            for length in range(1, len(path) + 1):
                self._beneath.setdefault(tuple(path[:length]), []).append(row)

    def allowed(self, conditions: Filter, where: str) -> np.ndarray:
        """Computes booleans [N] for `Trie.mask`, True where a document meets all conditions.

        Args:
            conditions: the filter.
            where: the filter's place, for error messages.

        Raises:
            InputError: the filter names an id or a category that no document has.
        """
        allowed = np.ones(len(self._rows), bool)
        for name in FIELDS:
            wanted = getattr(conditions, name)
            if wanted is not None:
                rows = self._rows_of(name, set(wanted), where)
                allowed &= rows if name.startswith("allow") else ~rows
        return allowed

    def _rows_of(self, name: str, wanted: set[Any], where: str) -> np.ndarray:
        """Computes booleans [N], True for the documents of some ids or categories."""
        rows = np.zeros(len(self._rows), bool)
        if name.endswith("ids"):
            _check_known(wanted - self._rows.keys(), name, where)
            found = [self._rows[product_id] for product_id in wanted]
        else:
            unknown = wanted - self._beneath.keys()
            _check_known({" > ".join(path) for path in unknown}, name, where)
            found = [row for path in wanted for row in self._beneath[path]]
        rows[found] = True
        return rows


def _check_known(unknown: set[str], name: str, where: str) -> None:
    """Raises InputError if there are unknown ids or categories, naming the first few."""
    if unknown:
        named = ", ".join(map(repr, sorted(unknown)[:_NAMED]))
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        what = name.partition("_")[2]
        raise InputError(
            where, f"unknown {what} {named}{more} in {name}", f"{what} of the catalogue"
        )
