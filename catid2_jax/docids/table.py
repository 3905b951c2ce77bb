"""The table of document IDs, its text form `<a_65><b_225><c_205><d_19>`, and its file."""

import dataclasses
import itertools
import numbers
import re
import string
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from catid2_jax.data.lines import (
    at_least_one,
    json_line,
    parse_id,
    parse_json_object,
    read_lines,
    require_fields,
    write_lines,
)
from catid2_jax.errors import InputError

_TOKEN = re.compile(r"<([a-z])_(0|[1-9]\d*)>")
_MOST_LEVELS = len(string.ascii_lowercase)
_LARGEST_CODE = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class DocidTable:
    """The document IDs of a catalogue, in the catalogue's order.

    An ID has up to L codes. Every product has one ID, and no two products have the same.

    Attributes:
        ids: the products' ids, N different ones.
        codes: int32 [N, L]; row n is the ID of product ids[n], with -1 after its last code where it
            has fewer than L.
        nearest: int32 [N, L], the codes nearest to each product when it got its ID, padded where
            the ID is. They differ from `codes` where another product had that ID. None stands for
            `codes`.
        codebook_size: K; all codes are below it. 0 is replaced by the smallest K that fits.

    Raises:
        InputError: the arrays are no such table; `where` is the attribute at fault.
    """

    ids: Sequence[str]
    codes: np.ndarray
    nearest: np.ndarray | None = None
    codebook_size: int = 0

    def __post_init__(self) -> None:
        _check_ids(self.ids)
        found = {"codes": _check_codes(self.codes, "codes", self.ids, self.codebook_size)}
        if self.nearest is not None:
            found["nearest"] = _check_codes(self.nearest, "nearest", self.ids, self.codebook_size)
            _check_lengths(found["nearest"], found["codes"], self.ids)
        _check_unique(found["codes"], self.ids)
        largest = max(int(codes.max(initial=-1)) for codes in found.values())
        size = int(self.codebook_size) or largest + 1
        for name, value in {**found, "codebook_size": size}.items():
            object.__setattr__(self, name, value)  # the class is frozen

    @property
    def levels(self) -> int:
        """L, the most codes that an ID may have: the width of `codes`."""
        return self.codes.shape[1]


def check_shape(levels: int, codebook_size: int) -> None:
    """Raises InputError unless IDs may have so many levels and codes per level."""
    for name, value, most in (
        ("levels", levels, _MOST_LEVELS),
        ("codebook_size", codebook_size, _LARGEST_CODE + 1),
    ):
        if not (isinstance(value, numbers.Integral) and 1 <= value <= most):
            raise InputError(name, repr(value), f"an integer from 1 to {most}")


def format_docid(codes: Sequence[int]) -> str:
    """`[65, 225]` -> `<a_65><b_225>`: a letter per level and the code, for at most 26 levels.

    The -1 after the end of a shorter ID are left out.
    """
    levels = zip(string.ascii_lowercase, _without_padding(codes), strict=False)
    return "".join(f"<{level}_{code}>" for level, code in levels)


def parse_docid(docid: str) -> list[int]:
    """Reads the codes of an ID's text, the inverse of `format_docid`.

    Raises:
        InputError: the text is not a run of `<letter_code>` with the letters a, b, c in order.
    """
    tokens = _TOKEN.findall(docid)
    letters = "".join(letter for letter, _ in tokens)
    codes = [int(code) for _, code in tokens]
    if (
        not tokens
        or format_docid(codes) != docid
        or letters != string.ascii_lowercase[: len(codes)]
    ):
        raise InputError("", f"document ID {docid!r}", "a form like <a_65><b_225><c_205>")
    return codes


def write_docids(path: str | PathLike[str], table: DocidTable) -> None:
    """Writes `docids.jsonl`, one `docid_record` per product, atomically.

    Raises:
        InputError: the table has no product, or an id has white space.
    """
    nearest = table.codes if table.nearest is None else table.nearest
    rows = zip(table.ids, table.codes.tolist(), nearest.tolist(), strict=True)
    lines = (json_line(docid_record(parse_id(i, str(path)), *row), str(path)) for i, *row in rows)
    write_lines(path, at_least_one(lines, path, "product"))


def docid_record(product_id: str, codes: Sequence[int], nearest: Sequence[int]) -> dict[str, Any]:
    """Makes the JSON object of a product's ID: `id`, `codes`, `docid` and perhaps `nearest`.

    Args:
        product_id: the product's id.
        codes: the codes of its ID, perhaps with -1 after the last; the object has none of these.
        nearest: the codes nearest to the product; in the object only where they differ.
    """
    codes, nearest = _without_padding(codes), _without_padding(nearest)
    record = {"id": product_id, "codes": codes, "docid": format_docid(codes)}
    return record if nearest == codes else record | {"nearest": nearest}


def parse_docid_record(
    record: dict[str, Any], where: str
) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Reads the product, its codes and its nearest codes, none padded, from a JSON object.

    Raises:
        InputError: a field is missing or not as `docid_record` makes it.
    """
    require_fields(record, ("id", "codes"), where)
    product_id, codes = parse_id(record["id"], where), _parse_codes(record["codes"], where)
    nearest = _parse_codes(record.get("nearest", record["codes"]), where)
    if len(nearest) != len(codes):
        raise InputError(where, f"{len(nearest)} nearest codes", f"{len(codes)} as in `codes`")
    return product_id, codes, nearest


def read_docids(path: str | PathLike[str], codebook_size: int = 0) -> DocidTable:
    """Reads a file that `write_docids` wrote.

    Args:
        path: the file.
        codebook_size: K; 0 for the smallest that fits the codes.

    Raises:
        InputError: there is no such file, it is empty, or a line (named by its number) is not as
            written, has a code of K or more, or repeats the product or the ID of an earlier one.
    """
    ids: dict[str, int] = {}
    rows: dict[tuple[int, ...], int] = {}
    nearest: list[tuple[int, ...]] = []
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        record = parse_json_object(line, where)
        product_id, codes, made_from = parse_docid_record(record, where)
        largest = max(*codes, *made_from)
        if codebook_size and largest >= codebook_size:
            raise InputError(where, f"code {largest}", f"0 to {codebook_size - 1}")
        if codes in rows:
            first = f"{path}:{rows[codes]}"
            raise InputError(
                where, f"{format_docid(codes)} again", f"one product per ID (first at {first})"
            )
        if product_id in ids:
            first = f"{path}:{ids[product_id]}"
            raise InputError(
                where, f"product {product_id!r} again", f"one ID per product (first at {first})"
            )
        rows[codes] = ids[product_id] = number
        nearest.append(made_from)
    if not ids:
        raise InputError(path, "no line", "a document ID per product")
    return DocidTable(list(ids), _pad(list(rows)), _pad(nearest), codebook_size)


def _parse_codes(value: object, where: str) -> tuple[int, ...]:
    """Checks the codes of a line, which are integers of at least 0 that an int32 holds."""
    if (
        not isinstance(value, list)
        or not value
        or any(type(c) is not int or not 0 <= c <= _LARGEST_CODE for c in value)
    ):
        raise InputError(where, f"codes {value!r:.60}", f"integers of 0 to {_LARGEST_CODE}")
    return tuple(value)


def _pad(rows: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Makes int32 [N, L] of N tuples of up to L codes, with -1 after the end of a shorter one."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    is_code = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full(is_code.shape, -1, np.int32)
    padded[is_code] = np.fromiter(itertools.chain.from_iterable(rows), np.int32)
    return padded


def _without_padding(codes: Sequence[int]) -> list[int]:
    """Returns the codes of a row without the -1 at its end."""
    found = [int(code) for code in codes]
    while found and found[-1] == -1:
        found.pop()
    return found


def _check_ids(ids: Sequence[str]) -> None:
    """Raises InputError if a product occurs twice."""
    if len(set(ids)) < len(ids):
        first: dict[str, int] = {}
        for row, product_id in enumerate(ids):
            if first.setdefault(product_id, row) != row:
                found = f"product {product_id!r} in rows {first[product_id]} and {row}"
                raise InputError("ids", found, "one ID per product")


def _check_codes(value: Any, name: str, ids: Sequence[str], codebook_size: int) -> np.ndarray:
    """Returns codes as int32 [N, L].

    Raises:
        InputError: not integers [N, L], a code outside 0..K-1 (K = 0: no bound but int32's), or -1
            elsewhere than after the end of a shorter ID.
    """
    try:
        codes = np.asarray(value)
    except ValueError as error:
        raise InputError(
            name, f"no array ({error})", "rows of one length, -1 after the end of a shorter ID"
        ) from error
    if codes.ndim != 2 or codes.dtype.kind not in "iu" or not 1 <= codes.shape[1] <= _MOST_LEVELS:
        found = f"{codes.dtype} of shape {codes.shape}"
        raise InputError(name, found, f"integers [N, L] with L from 1 to {_MOST_LEVELS}")
    if len(codes) != len(ids):
        raise InputError(name, f"{len(codes)} rows", f"{len(ids)}, one per product")
    bound = codebook_size or _LARGEST_CODE + 1
    outside = (codes < -1) | (codes >= bound)
    if outside.any():
        row, level = np.argwhere(outside)[0]
        found = f"code {codes[row, level]} at level {level} of product {ids[row]!r}"
        raise InputError(name, found, f"0 to {bound - 1}, or -1 after the end of a shorter ID")
    ended = codes < 0
    broken = ended[:, 0] | (ended[:, :-1] & ~ended[:, 1:]).any(axis=1)
    if broken.any():
        row = int(np.argmax(broken))
        found = f"{codes[row].tolist()} for product {ids[row]!r}"
        raise InputError(name, found, "at least one code, and -1 only after the last")
    return codes.astype(np.int32, copy=False)


def _check_lengths(nearest: np.ndarray, codes: np.ndarray, ids: Sequence[str]) -> None:
    """Raises InputError unless every product has as many nearest codes as its ID has codes."""
    if nearest.shape != codes.shape:
        raise InputError("nearest", f"shape {nearest.shape}", f"{codes.shape} as of `codes`")
    differs = ((nearest < 0) != (codes < 0)).any(axis=1)
    if differs.any():
        row = int(np.argmax(differs))
        found = f"{nearest[row].tolist()} for product {ids[row]!r}"
        raise InputError("nearest", found, f"as many codes as in its ID {codes[row].tolist()}")


def _check_unique(codes: np.ndarray, ids: Sequence[str]) -> None:
    """Raises InputError if two products have the same ID."""
    order = np.lexsort(codes.T)
    ordered = codes[order]
    repeated = (ordered[1:] == ordered[:-1]).all(axis=1)
    if repeated.any():
        row = int(np.argmax(repeated))
        first, second = (ids[n] for n in order[row : row + 2])
        found = f"{format_docid(ordered[row])} for products {first!r} and {second!r}"
        raise InputError("codes", found, "one product per ID")
