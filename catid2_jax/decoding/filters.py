"""Which documents a request may find, by product id and by category."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

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

_NAMED = 10  # unknown names in a message

Path = tuple[str, ...]
"""Names of categories, root first; it stands for all documents beneath it."""


@dataclasses.dataclass(frozen=True)
class Filter:
    """What a request may find: the documents that meet all conditions.

    None is no condition; nothing is among the ids or categories of an empty collection.

    Attributes:
        allow_ids: a document's id must be among these.
        deny_ids: it must not be among these.
        allow_categories: a document must be in one of these categories or below it.
        deny_categories: it must not.
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
"""The conditions, by name: what they do, and of what."""


def parse_filter(fields: Mapping[str, Any], where: str) -> Filter | None:
    """The filter in fields of JSON, those of other names being ignored; None if there is none.

    Args:
        fields: lists by the names of `Filter`'s attributes. A category is a list of names or a
            text such as "Garden > Tools".
        where: names the place in messages.

    Raises:
        InputError: not a list, or an entry that is no id or no category.
    """
    given: dict[str, Any] = {}
    for name in FIELDS:
        if name not in fields:
            continue
        value, parse = fields[name], parse_id if name.endswith("ids") else parse_path
        if not isinstance(value, list):
            raise InputError(f"{where}: found {name} {value!r:.60}, expected a list")
        given[name] = tuple(parse(entry, where) for entry in value)
    return Filter(**given) if given else None


def read_filter(paths: Mapping[str, str | PathLike[str]]) -> Filter | None:
    """The filter in files, by the names of `Filter`'s attributes; None if no file is named.

    A file is text of an id or a category ("Garden > Tools") per line or, if its suffix says so,
    JSON Lines with a field `id` or `categories`, as a catalogue has them.

    Raises:
        InputError: an unreadable file, or a bad line (named).
    """
    given: dict[str, Any] = {}
    for name, path in paths.items():
        if path:
            field, parse = ("id", parse_id) if name.endswith("ids") else ("categories", parse_path)
            given[name] = _read_entries(path, field, parse)
    return Filter(**given) if given else None


def parse_path(value: Any, where: str) -> Path:
    """A category path, a list of names or a text such as "Garden > Tools".

    Raises:
        InputError: it is neither, is empty, or has an empty name.
    """
    names = value.split(">") if isinstance(value, str) else value
    if not isinstance(names, list) or not names:
        raise InputError(
            f"{where}: found category {value!r:.60}, expected a list of names, root first, or a "
            "text such as 'Garden > Tools'"
        )
    return tuple(parse_text(name, "category", where).strip() for name in names)


def _read_entries(
    path: str | PathLike[str], field: str, parse: Callable[[Any, str], Any]
) -> tuple[Any, ...]:
    """One entry per line."""
    entries = []
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        if str(path).endswith(JSON_SUFFIXES):
            record = parse_json_object(line, where)
            require_fields(record, (field,), where)
            entries.append(parse(record[field], where))
        else:
            entries.append(parse(decode_line(line, where).strip(), where))
    return tuple(entries)


class FilterIndex:
    """The documents of a table by id and by category."""

    def __init__(self, ids: Sequence[str], paths: Iterable[Sequence[str]] = ()) -> None:
        """Builds the index.

        Args:
            ids: of the N documents, in the table's order.
            paths: their category paths, root first; none if no filter has categories.
        """
        self._rows = {product_id: row for row, product_id in enumerate(ids)}
        self._beneath: dict[Path, list[int]] = {}
        for row, path in enumerate(paths):
            for length in range(1, len(path) + 1):
                self._beneath.setdefault(tuple(path[:length]), []).append(row)

    def allowed(self, conditions: Filter, where: str) -> np.ndarray:
        """Booleans [N] for `Trie.mask`, True where a document meets all conditions.

        Args:
            conditions: the filter.
            where: names it in messages.

        Raises:
            InputError: an id or a category that no document has.
        """
        allowed = np.ones(len(self._rows), bool)
        for name in FIELDS:
            wanted = getattr(conditions, name)
            if wanted is not None:
                rows = self._rows_of(name, set(wanted), where)
                allowed &= rows if name.startswith("allow") else ~rows
        return allowed

    def _rows_of(self, name: str, wanted: set[Any], where: str) -> np.ndarray:
        """Booleans [N], True for the documents of some ids or categories."""
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
    """Raises InputError naming the unknown, the first few of them if they are many."""
    if unknown:
        named = ", ".join(map(repr, sorted(unknown)[:_NAMED]))
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        what = name.partition("_")[2]
        raise InputError(
            f"{where}: found unknown {what} {named}{more} in {name}, expected {what} of the "
            "catalogue"
        )
