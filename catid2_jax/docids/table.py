"""The table of document IDs, its text form `<a_65><b_225><c_205><d_19>`, and its file."""

import dataclasses
import re
import string
from collections.abc import Sequence
from os import PathLike

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


@dataclasses.dataclass(frozen=True)
class DocidTable:
    """Document IDs of a catalogue, in its order.

    Attributes:
        ids: the products' ids, N of them.
        codes: int32 [N, L]; row n belongs to ids[n].
    """

    ids: Sequence[str]
    codes: np.ndarray


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
    """Writes `docids.jsonl`: a line of `id`, `codes` and `docid` per product, atomically."""
    rows = zip(table.ids, table.codes.tolist(), strict=True)
    records = ({"id": i, "codes": row, "docid": format_docid(row)} for i, row in rows)
    write_lines(path, (json_line(record, str(path)) for record in records))


def read_docids(path: str | PathLike[str]) -> DocidTable:
    """Reads what `write_docids` wrote.

    Raises:
        InputError: no such file, or a line that is not as written, with its number; two products
            of one ID, or one product with two; IDs of different lengths.
    """
    ids: dict[str, int] = {}
    rows: dict[tuple[int, ...], int] = {}
    levels = 0
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        record = parse_json_object(line, where)
        require_fields(record, ("id", "codes"), where)
        product_id, codes = parse_id(record["id"], where), _parse_codes(record["codes"], where)
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
    if not ids:
        raise InputError(f"{path}: found no line, expected a document ID per product")
    return DocidTable(list(ids), np.array(list(rows), np.int32))


def _parse_codes(value: object, where: str) -> tuple[int, ...]:
    """Codes, which are integers of at least 0."""
    if not isinstance(value, list) or not value or any(type(c) is not int or c < 0 for c in value):
        raise InputError(f"{where}: found codes {value!r:.60}, expected integers of at least 0")
    return tuple(value)
