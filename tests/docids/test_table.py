import json
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.docids.table import (
    DocidTable,
    format_docid,
    parse_docid,
    read_docids,
    write_docids,
)
from catid2_jax.errors import InputError

CODES = st.lists(st.integers(0, 10**6), min_size=1, max_size=26)


def test_the_paper_s_example():
    assert format_docid([65, 225, 205, 19]) == "<a_65><b_225><c_205><d_19>"


@given(CODES)
def test_parse_inverts_format(codes):
    text = format_docid(codes)
    assert [part[0] for part in text.split("<")[1:]] == list(string.ascii_lowercase[: len(codes)])
    assert parse_docid(text) == codes


@given(st.text("<>_ab019 -", max_size=12))
def test_what_is_not_refused_is_a_docid(text):
    try:
        codes = parse_docid(text)
    except InputError:
        return
    assert format_docid(codes) == text


@given(st.lists(CODES.map(tuple), min_size=1, max_size=20, unique=True), st.integers(1, 4))
def test_file_round_trip(tmp_path_factory, rows, levels):
    codes = np.array(sorted({tuple((*row, 0, 0, 0)[:levels]) for row in rows}), np.int32)
    table = DocidTable([f"é{i}" for i in range(len(codes))], codes)
    path = tmp_path_factory.mktemp("docids") / "docids.jsonl"
    write_docids(path, table)
    again = read_docids(path)
    assert list(again.ids) == table.ids
    np.testing.assert_array_equal(again.codes, codes)
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert first["docid"] == format_docid(first["codes"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"id": "a", "codes": [1, 2]}', "nonsense"], r":2: found invalid JSON"),
        (['{"id": "a", "codes": [1, 2]}', '{"id": "b", "codes": [1]}'], r":2: found 1 codes"),
        (['{"id": "a", "codes": [1]}', '{"id": "b", "codes": [1]}'], r":2: .*<a_1> again.*:1\)"),
        (['{"id": "a", "codes": [1]}', '{"id": "a", "codes": [2]}'], r":2: .*'a' again.*:1\)"),
        (['{"id": "a", "codes": [1.5]}'], r":1: found codes \[1.5\], expected integers"),
        (['{"id": "a", "codes": [-1]}'], r":1: found codes \[-1\]"),
        (['{"id": "a", "codes": [2147483648]}'], r":1: .* expected integers of 0 to 2147483647"),
        (['{"id": "a", "codes": 1}'], r":1: found codes 1"),
        (['{"id": "a"}'], r":1: .*'codes'"),
        ([], r"found no line"),
    ],
)
def test_bad_files_name_the_line(tmp_path, lines, message):
    path = tmp_path / "docids.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(InputError, match=message):
        read_docids(path)
    with pytest.raises(InputError, match="no such file"):
        read_docids(tmp_path / "missing.jsonl")
