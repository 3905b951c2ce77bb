"""Reads category cells: what one cell of a table says of a product's place in the category tree."""

import ast
import csv
import dataclasses
import io
import json
import re
import tokenize
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from catid2_jax.data.text import without_markup

Path = tuple[str, ...]

RARE_IN_NAMES = (">>", "::", "->", ">", "|", "»", "\u203a", "→")
SEPARATORS = (*RARE_IN_NAMES, "/", "\\", ";", ":", ",")
"""What usually stands between two names of a path."""

PATH_SEPARATORS = (",", ";", "|", "\n")
"""What usually stands between two paths of a cell."""

NO_NAMES = ("nan", "none", "null", "n/a", "<na>", "#n/a", "\\n")
"""What data frames, databases and spreadsheets write where there is no name, in lower case."""

_ESCAPED = re.compile(r"\\+(?=[/>|,;:»\u203a])")
_HALF_A_LIST = re.compile(r"""^\[\s*['"\[{]|['"\]}]\s*\]$""")
_NAME_FIELDS = ("name", "title", "label")
_LEVEL_FIELD = re.compile(r"\D*(\d+)")  # "lvl0", "level_1"


@dataclasses.dataclass(frozen=True)
class CellForm:
    """What separates the names and the paths of a cell.

    Attributes:
        separator: text between two names of a path; empty if a text is one name.
        path_separator: text between two paths; empty if a text is one path.
    """

    separator: str
    path_separator: str = ""

    def paths(self, cell: object) -> list[Path]:
        """Returns the paths of a cell, of which there are several in some shops.

        Entities are decoded before a text is split, and a separator after a backslash belongs to
        the name. A text may be a list as JSON, Python, NumPy or PostgreSQL write it. A list holds
        paths if the separator is in one of its texts or if it holds lists; otherwise it is one
        path. An object stands for its field `name`, `title` or `label`, or for its levels. One of
        `NO_NAMES` is no name.

        Args:
            cell: text, a number, an object, or a list of those or of lists; None for nothing.

        Returns:
            Paths, root first; a name is "" where a level is empty. No path has only such names.

        Raises:
            ValueError: the cell is of no such form.
        """
        found = _unfolded(parse_list(cell) if isinstance(cell, str) else cell)
        if isinstance(found, list | tuple):
            return [path for path in self._paths_of_list(found) if any(path)]
        return self.paths_of_text(self.plain(_name(found)))

    def plain(self, text: str) -> str:
        """Decodes the entities of a text, however often it was escaped, and removes tags."""
        while "<" not in self.separator and (plain := without_markup(text)) != text:
            text = plain
        return text

    def paths_of_text(self, text: str) -> list[Path]:
        """Splits a plain text that is no list."""
        if is_blank(text):
            return []
        paths = [_trimmed(split(part, self.separator)) for part in split(text, self.path_separator)]
        return [tuple(self._name(name) for name in path) for path in paths if path]

    def _paths_of_list(self, items: Sequence[Any]) -> list[Path]:
        items = [_unfolded(item) for item in items]
        if any(isinstance(item, list | tuple) for item in items):
            return [path for item in items for path in self.paths(item)]
        names = [self.plain(_name(item)) for item in items]
        if self.separator and any(len(_trimmed(split(n, self.separator))) > 1 for n in names):
            return [path for name in names for path in self.paths_of_text(name)]
        return [tuple(self._name(name) for name in names)]

    def _name(self, name: str) -> str:
        if is_blank(name):
            return ""
        return (name if "\\" in self.separator else _ESCAPED.sub("", name)).strip()


def split(text: str, separator: str) -> list[str]:
    """Splits a text at a separator that no backslash precedes; an empty one splits nothing."""
    if not separator:
        return [text]
    if "\\" not in text or "\\" in separator:
        return text.split(separator)
    return re.split(rf"(?<!\\){re.escape(separator)}", text)


def is_blank(name: str) -> bool:
    """Says whether a text is empty, or one of `NO_NAMES`."""
    name = name.strip()
    return not name or (len(name) <= 4 and name.lower() in NO_NAMES)


def _trimmed(names: list[str]) -> list[str]:
    """Leaves out blank names at both ends, as in "/Home/Cups/"."""
    filled = [place for place, name in enumerate(names) if not is_blank(name)]
    return names[filled[0] : filled[-1] + 1] if filled else []


def _name(item: Any) -> str:
    if isinstance(item, Mapping):
        item = next((item[field] for field in item if field.lower() in _NAME_FIELDS), ...)
    if item is None or item != item:  # NaN, as pandas writes nothing
        return ""
    if not isinstance(item, str | int | float):
        raise ValueError("no name")
    return str(item)


def _unfolded(item: Any) -> Any:
    """Returns the values of an object's fields "lvl0", "lvl1" and so on, root first."""
    if not isinstance(item, Mapping) or any(field.lower() in _NAME_FIELDS for field in item):
        return item
    numbers = {field: match[1] for field in item if (match := _LEVEL_FIELD.fullmatch(field))}
    if len(numbers) < len(item):
        raise ValueError("an object without a name")
    return [item[field] for field in sorted(numbers, key=lambda field: int(numbers[field]))]


def parse_list(text: str) -> Any:
    """Parses the list or the object that a text is; any other text comes back as it is.

    Raises:
        ValueError: the text begins or ends like a list, but is none.
    """
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "()", "{}"):
        if _HALF_A_LIST.search(text):
            raise ValueError("a part of a list")
        return text
    for form in dict.fromkeys((text, without_markup(text))):
        for parse in (json.loads, _python):
            try:
                value = parse(form)
            except (ValueError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError):
                continue
            return value if isinstance(value, list | tuple | Mapping) else text
    names = without_markup(text)[1:-1]
    return text if text[0] == "(" or re.search(r"[\[\]]", names) else _unquoted(names)


def _python(text: str) -> Any:
    """Parses a list as Python or NumPy prints it; NumPy puts no commas between its texts."""
    words: list[str] = []
    before = tokenize.ENDMARKER
    with warnings.catch_warnings(action="ignore"):  # of unknown escapes
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            words += [","] * (before == token.type == tokenize.STRING)
            words.append("None" if token.string == "nan" else token.string)
            before = before if token.type == tokenize.NL else token.type
        if words[0] == "{" and ":" not in words:
            words[0], words[words.index("}")] = "[", "]"  # a set has no order
        return ast.literal_eval(" ".join(words).strip())


def _unquoted(text: str) -> list[str]:
    """Parses a list with bare names, as Java and PostgreSQL write it."""
    try:
        rows = list(csv.reader([text], skipinitialspace=True, escapechar="\\", strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    names = [name for row in rows for name in row]
    if any(re.search(r"^['\"\[{]|['\"\]}]$", name) for name in names):
        raise ValueError("a list that is not closed")
    return names
