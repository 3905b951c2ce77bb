"""The table of document IDs, its text form `<a_65><b_225><c_205><d_19>`, and its file."""

import dataclasses
import re
import string
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from catid2_jax.data.lines import (
    json_line,
    parse_id,
    parse_json_object,
    read_lines,
    require_fields,
    write_lines,
)
from catid2_jax.errors import InputError

_TOKEN = re.compile(r"<([a-z])_(0|[1-9]\d*)>")
_LARGEST_CODE = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class DocidTable:
    """Document IDs of a catalogue, in its order.

    Attributes:
        ids: the products' ids, N of them.
        codes: int32 [N, L]; row n belongs to ids[n].
        nearest: int32 [N, L], the codes nearest to each product when it got its ID, which are
            others where that would have been another's ID too; None: all are `codes`.
    """

    ids: Sequence[str]
    codes: np.ndarray
    nearest: np.ndarray | None = None


def format_docid(codes: Sequence[int]) -> str:
    """`[65, 225]` -> `<a_65><b_225>`: a letter per level, then the code; at most 26 levels."""
    levels = zip(string.ascii_lowercase, codes, strict=False)
    return "".join(f"<{level}_{int(code)}>" for level, code in levels)


def parse_docid(docid: str) -> list[int]:
    """The inverse of `format_docid`.

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
        raise InputError(f"found document ID {docid!r}, expected a form like <a_65><b_225><c_205>")
    return codes


def write_docids(path: str | PathLike[str], table: DocidTable) -> None:
    """Writes `docids.jsonl`: a line of `id`, `codes` and `docid` per product, atomically.

    A line whose codes are not the nearest has those too, as `nearest`.
    """
    nearest = table.codes if table.nearest is None else table.nearest
    rows = zip(table.ids, table.codes.tolist(), nearest.tolist(), strict=True)
    write_lines(path, (json_line(docid_record(*row), str(path)) for row in rows))


def docid_record(product_id: str, codes: list[int], nearest: list[int]) -> dict[str, Any]:
    """A product's ID as a line of a file has it."""
    record = {"id": product_id, "codes": codes, "docid": format_docid(codes)}
    return record if nearest == codes else record | {"nearest": nearest}


def parse_docid_record(
    record: dict[str, Any], where: str
) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """The product, codes and nearest codes of a line.

    Raises:
        InputError: a field is missing or not as `docid_record` makes it.
    """
    require_fields(record, ("id", "codes"), where)
    product_id, codes = parse_id(record["id"], where), _parse_codes(record["codes"], where)
    nearest = _parse_codes(record.get("nearest", record["codes"]), where)
    if len(nearest) != len(codes):
        raise InputError(f"{where}: found {len(nearest)} nearest codes, expected {len(codes)}")
    return product_id, codes, nearest


def read_docids(path: str | PathLike[str]) -> DocidTable:
    """Reads what `write_docids` wrote.

    Raises:
        InputError: no such file, or a line that is not as written, with its number; two products
            of one ID, or one product with two; IDs of different lengths.
    """
    ids: dict[str, int] = {}
    rows: dict[tuple[int, ...], int] = {}
    nearest: list[tuple[int, ...]] = []
    levels = 0
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        record = parse_json_object(line, where)
        product_id, codes, made_from = parse_docid_record(record, where)
        levels = levels or len(codes)
        if len(codes) != levels:
            raise InputError(f"{where}: found {len(codes)} codes, expected {levels} as before")
        if codes in rows:
            raise InputError(
                f"{where}: found {format_docid(codes)} again, expected one product per ID (first "
                f"at {path}:{rows[codes]})"
            )
        if product_id in ids:
            raise InputError(
                f"{where}: found product {product_id!r} again, expected one ID per product (first "
                f"at {path}:{ids[product_id]})"
            )
        rows[codes] = ids[product_id] = number
        nearest.append(made_from)
    if not ids:
        raise InputError(f"{path}: found no line, expected a document ID per product")
    return DocidTable(list(ids), np.array(list(rows), np.int32), np.array(nearest, np.int32))


def _parse_codes(value: object, where: str) -> tuple[int, ...]:
    """Codes, which are integers of at least 0 that an int32 holds."""
    if (
        not isinstance(value, list)
        or not value
        or any(type(c) is not int or not 0 <= c <= _LARGEST_CODE for c in value)
    ):
        raise InputError(
            f"{where}: found codes {value!r:.60}, expected integers of 0 to {_LARGEST_CODE}"
        )
    return tuple(value)
