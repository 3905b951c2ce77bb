"""The table of document IDs, its text form `<a_65><b_225><c_205><d_19>`, and its file."""

import dataclasses
import json
import os
import re
import string
from collections.abc import Sequence

import numpy as np

from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write

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


def write_docids(path: str | os.PathLike[str], table: DocidTable) -> None:
    """Writes `docids.jsonl`: a line of `id`, `codes` and `docid` per product, atomically."""
    with atomic_write(path) as file:
        for product_id, row in zip(table.ids, table.codes.tolist(), strict=True):
            record = {"id": product_id, "codes": row, "docid": format_docid(row)}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_docids(path: str | os.PathLike[str]) -> DocidTable:
    """Reads what `write_docids` wrote.

    Raises:
        InputError: no such file, or a line that is not as written, with its number; two products
            of one ID; IDs of different lengths.
    """
    ids: list[str] = []
    rows: list[tuple[int, ...]] = []
    first: dict[tuple[int, ...], int] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                product_id, codes = _parse_line(f"{path}:{number}", line)
                if rows and len(codes) != len(rows[0]):
                    raise InputError(
                        f"{path}:{number}: found {len(codes)} codes, expected {len(rows[0])} as "
                        "on the first line"
                    )
                if codes in first:
                    raise InputError(
                        f"{path}:{number}: found {format_docid(codes)} a second time, expected "
                        f"one product per ID; the first is on line {first[codes]}"
                    )
                first[codes] = number
                ids.append(product_id)
                rows.append(codes)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not ids:
        raise InputError(f"{path}: found no line, expected a document ID per product")
    return DocidTable(ids, np.array(rows, np.int32))


def _parse_line(where: str, line: str) -> tuple[str, tuple[int, ...]]:
    """One line of docids.jsonl as (product id, codes)."""
    try:
        record = json.loads(line)
        product_id, codes = record["id"], tuple(record["codes"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where}: expected a JSON object with `id` and `codes`") from error
    if not (isinstance(product_id, str) and codes and all(type(c) is int for c in codes)):
        raise InputError(f"{where}: expected `id` as text and `codes` as integers")
    if min(codes) < 0:
        raise InputError(f"{where}: found code {min(codes)}, expected 0 or more")
    return product_id, codes
