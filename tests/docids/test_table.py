import json
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.docids.table import (
    DocidTable,
    docid_record,
    format_docid,
    parse_docid,
    parse_docid_record,
    read_docids,
    write_docids,
)
from catid2_jax.errors import InputError

CODES = st.lists(st.integers(0, 10**6), min_size=1, max_size=26)
LARGEST = 2**31 - 1


def padded(rows, levels):
    return np.array([[*row, *[-1] * (levels - len(row))] for row in rows], np.int32)


def test_the_paper_s_example():
    assert format_docid([65, 225, 205, 19]) == "<a_65><b_225><c_205><d_19>"


@given(CODES, st.integers(0, 3))
def test_parse_inverts_format(codes, padding):
    text = format_docid(codes + [-1] * padding)
    assert [part[0] for part in text.split("<")[1:]] == list(string.ascii_lowercase[: len(codes)])
    assert parse_docid(text) == codes


@given(st.text("<>_ab019 -", max_size=12))
def test_what_is_not_refused_is_a_docid(text):
    try:
        codes = parse_docid(text)
    except InputError:
        return
    assert format_docid(codes) == text


@given(
    st.lists(
        st.lists(st.integers(0, 3) | st.integers(0, LARGEST), min_size=1, max_size=5).map(tuple),
        min_size=1,
        max_size=20,
        unique=True,
    ),
    st.data(),
)
def test_file_round_trip(tmp_path_factory, rows, data):
    levels = max(map(len, rows))
    near = [data.draw(st.sampled_from([row, tuple(c // 2 for c in row)])) for row in rows]
    size = max(map(max, rows)) + 1 + data.draw(st.integers(0, 3))
    names = [f"é{i}" for i in range(len(rows))]
    table = DocidTable(names, padded(rows, levels), padded(near, levels), size)
    path = tmp_path_factory.mktemp("docids") / "docids.jsonl"
    write_docids(path, table)

    again = read_docids(path, size)
    assert list(again.ids) == names
    np.testing.assert_array_equal(again.codes, table.codes)
    np.testing.assert_array_equal(again.nearest, table.nearest)
    assert again.codes.dtype == again.nearest.dtype == np.int32
    assert (again.levels, again.codebook_size) == (levels, size)
    assert read_docids(path).codebook_size == max(map(max, rows)) + 1
    lines = list(map(json.loads, path.read_text(encoding="utf-8").splitlines()))
    for line, name, row, nearest in zip(lines, names, rows, near, strict=True):
        expected = {"id": name, "codes": list(row), "docid": format_docid(row)}
        assert line == expected | ({} if nearest == row else {"nearest": list(nearest)})
        assert docid_record(name, [*row, -1], nearest) == line
        assert parse_docid_record(line, "") == (name, row, nearest)


def test_a_table_knows_its_sizes():
    codes = np.array([[3, -1, -1], [0, 7, -1]], np.int64)
    table = DocidTable(("a", "b"), codes)
    assert (table.levels, table.codebook_size) == (3, 8)
    assert table.codes.dtype == np.int32
    assert table.nearest is None
    assert DocidTable(["a", "b"], codes, codebook_size=256).codebook_size == 256
    # Nearest codes are of the same codebooks.
    assert DocidTable(["a"], np.array([[1, 2]]), np.array([[1, 9]])).codebook_size == 10
    assert DocidTable([], np.empty((0, 4), np.int32)).codebook_size == 0
    assert DocidTable(["a"], [[LARGEST]]).codes.tolist() == [[LARGEST]]


IDS = ["a", "b", "c"]
GOOD = [[0, 1], [1, -1], [1, 1]]


@pytest.mark.parametrize(
    ("ids", "codes", "nearest", "fields"),
    [
        (["a", "b", "a"], GOOD, None, ("ids", "product 'a' in rows 0 and 2")),
        (IDS, GOOD[:2], None, ("codes", "2 rows")),
        (IDS, [0, 1, 2], None, ("codes", "int64 of shape (3,)")),
        (IDS, [[0.0], [1.0], [2.0]], None, ("codes", "float64 of shape (3, 1)")),
        (IDS[:2], [[True], [False]], None, ("codes", "bool of shape (2, 1)")),
        (IDS, np.empty((3, 0), int), None, ("codes", "int64 of shape (3, 0)")),
        (IDS, np.zeros((3, 27), int), None, ("codes", "int64 of shape (3, 27)")),
        (IDS, [[0, 1], [1], [1, 1]], None, ("codes", "no array (")),
        (IDS, [[0, 1], [1, 4], [1, 1]], None, ("codes", "code 4 at level 1 of product 'b'")),
        (IDS, [[0, 1], [1, -2], [1, 1]], None, ("codes", "code -2 at level 1 of product 'b'")),
        (IDS, [[0, 1], [1, -1], [-1, 1]], None, ("codes", "[-1, 1] for product 'c'")),
        (IDS, [[0, 1], [-1, -1], [1, 1]], None, ("codes", "[-1, -1] for product 'b'")),
        (IDS, [[1, 1], [1, -1], [1, 1]], None, ("codes", "<a_1><b_1> for products 'a' and 'c'")),
        (IDS, [[1, -1], [1, 1], [1, -1]], None, ("codes", "<a_1> for products 'a' and 'c'")),
        (IDS, GOOD, [[0, 1], [1, -1]], ("nearest", "2 rows")),
        (IDS, GOOD, [[0], [1], [1]], ("nearest", "shape (3, 1)")),
        (IDS, GOOD, [[0, 1], [1, -1], [1, 4]], ("nearest", "code 4 at level 1 of product 'c'")),
        (IDS, GOOD, [[0, 1], [1, 1], [1, 1]], ("nearest", "[1, 1] for product 'b'")),
        (IDS, GOOD, [[0, 1], [1, -1], [-1, 1]], ("nearest", "[-1, 1] for product 'c'")),
    ],
)
def test_what_is_no_table_is_refused(ids, codes, nearest, fields):
    with pytest.raises(InputError) as error:
        DocidTable(ids, codes, nearest, codebook_size=4)
    assert error.value.where == fields[0]
    assert error.value.found.startswith(fields[1])


def test_codes_that_no_int32_holds_are_refused():
    with pytest.raises(InputError) as error:
        DocidTable(["a"], np.array([[LARGEST + 1]]))
    assert error.value.found == "code 2147483648 at level 0 of product 'a'"
    assert error.value.expected == "0 to 2147483647, or -1 after the end of a shorter ID"


@given(
    st.integers(1, 3).flatmap(
        lambda levels: st.lists(
            st.lists(st.integers(-2, 3), min_size=levels, max_size=levels), min_size=1, max_size=6
        )
    ),
    st.booleans(),
)
def test_a_table_is_refused_just_where_plain_python_says_so(rows, with_nearest):
    def is_id(row):
        codes = [code for code in row if code != -1]
        return bool(codes) and all(0 <= c < 3 for c in codes) and row[: len(codes)] == codes

    good = all(map(is_id, rows)) and len(set(map(tuple, rows))) == len(rows)
    nearest = np.array(rows) if with_nearest else None
    try:
        table = DocidTable([f"p{n}" for n in range(len(rows))], np.array(rows), nearest, 3)
    except InputError:
        assert not good
    else:
        assert good
        assert table.codes.tolist() == rows


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"id": "a", "codes": [1, 2]}', "nonsense"], r":2: found invalid JSON"),
        (['{"id": "a", "codes": [1]}', '{"id": "b", "codes": [1]}'], r":2: .*<a_1> again.*:1\)"),
        (['{"id": "a", "codes": [1]}', '{"id": "a", "codes": [2]}'], r":2: .*'a' again.*:1\)"),
        (['{"id": "a", "codes": [1.5]}'], r":1: found codes \[1.5\], expected integers"),
        (['{"id": "a", "codes": [-1]}'], r":1: found codes \[-1\]"),
        (['{"id": "a", "codes": [1, -1]}'], r":1: found codes \[1, -1\], expected integers"),
        (['{"id": "a", "codes": []}'], r":1: found codes \[\], expected integers"),
        (['{"id": "a", "codes": [2147483648]}'], r":1: .* expected integers of 0 to 2147483647"),
        (['{"id": "a", "codes": 1}'], r":1: found codes 1"),
        (
            ['{"id": "a", "codes": [1, 2], "nearest": [1]}'],
            r":1: found 1 nearest codes, expected 2",
        ),
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


@pytest.mark.parametrize(
    "line", ['{"id": "a", "codes": [4]}', '{"id": "a", "codes": [3], "nearest": [4]}']
)
def test_codes_of_larger_codebooks_are_refused_with_their_line(tmp_path, line):
    path = tmp_path / "docids.jsonl"
    path.write_text('{"id": "b", "codes": [3, 2]}\n' + line + "\n")
    with pytest.raises(InputError) as error:
        read_docids(path, codebook_size=4)
    assert error.value.args == (f"{path}:2", "code 4", "0 to 3")
    assert read_docids(path).codebook_size == 5


def test_a_table_of_no_product_is_not_written_since_it_could_not_be_read(tmp_path):
    with pytest.raises(InputError, match="found no product to write, expected at least one"):
        write_docids(tmp_path / "docids.jsonl", DocidTable([], np.empty((0, 4), np.int32)))
    assert not list(tmp_path.iterdir())
