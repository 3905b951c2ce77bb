import csv
import gzip
import io
import json
import os

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.data.sources import reading
from catid2_jax.data.sources.reading import csv_batches, files_of, json_batches, parquet_batches
from catid2_jax.errors import InputError

SCHEMA = pa.schema([("id", pa.string()), ("path", pa.list_(pa.string()))])
ROWS = [{"id": f"p{n}", "path": ["a", f"b{n}"]} for n in range(5000)]


def write(path, data):
    data = data if isinstance(data, bytes) else data.encode()
    with pa.output_stream(str(path), compression="detect") as file:
        file.write(data)
    return path


def json_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def rows_of(batches):
    return [row for batch in batches for row in batch.to_pylist()]


def error_of(batches):
    with pytest.raises(InputError) as caught:
        list(batches)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(reading, "BATCH_ROWS", 1000)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_json_lines_are_read_in_order_and_in_batches(tmp_path, suffix):
    path = write(tmp_path / f"items.jsonl{suffix}", json_lines(ROWS))
    batches = list(json_batches(path, SCHEMA))
    assert rows_of(batches) == ROWS
    assert max(map(len, batches)) == 1000


def test_fields_that_a_line_lacks_are_null_and_others_are_passed_over(tmp_path):
    rows = [
        {"id": "a", "path": None},
        {},
        {"path": ["x", None], "price": {"eur": 1}},
        {"id": "é🎁"},
    ]
    path = write(tmp_path / "items.jsonl", "\n".join(map(json.dumps, rows)))
    assert rows_of(json_batches(path, SCHEMA)) == [
        {"id": "a", "path": None},
        {"id": None, "path": None},
        {"id": None, "path": ["x", None]},
        {"id": "é🎁", "path": None},
    ]


def test_gzip_of_several_members_is_read_to_the_end(tmp_path):
    path = tmp_path / "items.jsonl.gz"
    half = [json_lines(ROWS[:7]).encode(), json_lines(ROWS[7:20]).encode()]
    path.write_bytes(b"".join(map(gzip.compress, half)))
    assert rows_of(json_batches(path, SCHEMA)) == ROWS[:20]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_a_cut_off_file_is_an_error_wherever_it_is_cut(tmp_path, suffix, share):
    path = write(tmp_path / f"items.jsonl{suffix}", json_lines(ROWS))
    data = path.read_bytes()
    path.write_bytes(data[: min(int(len(data) * share), len(data) - 1)])
    expected = f"{path}: found Truncated compressed stream, expected a whole and readable file"
    assert error_of(json_batches(path, SCHEMA)) == expected
    table = write(tmp_path / f"items.csv{suffix}", "id\n" + "a\n" * 100_000)
    table.write_bytes(table.read_bytes()[:-1])
    assert "Truncated compressed stream" in error_of(csv_batches(table, ["id"]))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_is_not_compressed_as_its_name_says(tmp_path, suffix):
    path = tmp_path / f"items.jsonl{suffix}"
    path.write_bytes(b'{"id": "a"}\n')
    assert error_of(json_batches(path, SCHEMA)).startswith(f"{path}: found ")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"id": "\xff"}', "found the byte b'\\xff' at column 9, expected UTF-8"),
        (b'{"id": x', "found invalid JSON (Expecting value at column 8), expected an object"),
        (b'["id"]', "found ['id'], expected a JSON object"),
        (b'{"id": 7}', "found id 7, expected string"),
        (b'{"path": "a > b"}', "found path 'a > b', expected list<item: string>"),
    ],
)
def test_a_bad_line_of_json_is_named(tmp_path, line, expected):
    path = write(tmp_path / "items.jsonl", b'{"id": "a"}\n\n' * 1500 + line + b"\n")
    assert error_of(json_batches(path, SCHEMA)) == f"{path}:3001: {expected}"


cells = st.text(st.sampled_from("ab ,;\t\"'\né🎁"), max_size=6)


@given(
    st.lists(st.tuples(cells, cells), max_size=6),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["", ".gz", ".zst"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_csv_is_read_as_it_was_written(rows, delimiter, suffix, quoting):
    import pathlib
    import tempfile

    # Blank lines are passed over, in a quoted cell too; white space is cleaned later anyway.
    rows = [row for row in rows if "\n\n" not in "".join(f"{cell}|" for cell in row)]
    rows = [tuple(cell.strip("\n \t") for cell in row) for row in rows]
    rows = [row for row in rows if not any("\n" in cell for cell in row)] + [("x\ny", "z")]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator="\r\n")
    writer.writerows([("title", "id"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = write(pathlib.Path(folder) / f"items.csv{suffix}", text.getvalue())
        read = rows_of(csv_batches(path, ["id", "title"], delimiter))
    assert [(row["title"], row["id"]) for row in read] == rows


def test_csv_columns_batches_and_optional_ones(tmp_path):
    text = "\ufeffid,title,other\n" + "".join(f"00{n},t{n},x\n" for n in range(2500))
    path = write(tmp_path / "items.csv", text)
    batches = list(csv_batches(path, ["title"], optional=["price", "id"]))
    assert [len(batch) for batch in batches] == [1000, 1000, 500]
    assert rows_of(batches) == [{"title": f"t{n}", "id": f"00{n}"} for n in range(2500)]


def test_blank_lines_are_passed_over_and_a_row_of_blank_cells_is_not(tmp_path):
    path = write(tmp_path / "items.tsv", "id\ttitle\n\n\t\n \n1\ta\r\n\r\n")
    assert rows_of(csv_batches(path, ["id", "title"], "\t")) == [
        {"id": "", "title": ""},
        {"id": "1", "title": "a"},
    ]


def test_csv_in_another_encoding(tmp_path):
    path = tmp_path / "items.csv"
    path.write_bytes("id,title\n1,Café\n2,Tasse à thé\n".encode("latin-1"))
    assert rows_of(csv_batches(path, ["title"], encoding="latin-1")) == [
        {"title": "Café"},
        {"title": "Tasse à thé"},
    ]
    assert error_of(csv_batches(path, ["title"])) == (
        f"{path}:2: found the byte b'\\xe9' at column 6, expected UTF-8"
    )
    assert error_of(csv_batches(path, ["title"], encoding="ascii")) == (
        f"{path}:2: found the byte b'\\xe9' at column 6, expected ascii"
    )
    assert error_of(csv_batches(path, ["title"], encoding="latin-99")) == (
        "encoding: found 'latin-99', expected one that Python knows"
    )


def test_encodings_that_are_mixed_are_an_error_at_the_first_line_of_the_other(tmp_path):
    path = tmp_path / "items.csv"
    path.write_bytes("id,title\n1,Café\n".encode() + "2,Thé\n".encode("cp1252"))
    assert error_of(csv_batches(path, ["title"])) == (
        f"{path}:3: found the byte b'\\xe9' at column 5, expected UTF-8"
    )
    path.write_bytes("id,title\n1,青\n".encode("shift-jis") + "2,赤い\n".encode())
    assert error_of(csv_batches(path, ["title"], encoding="shift-jis")).startswith(f"{path}:3: ")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_an_encoding_of_two_bytes_is_refused_with_what_helps(tmp_path, encoding):
    path = tmp_path / "items.csv"
    path.write_bytes("id,title\n1,Café\n".encode(encoding))
    assert error_of(csv_batches(path, ["title"], encoding=encoding)) == (
        f"encoding: found {encoding!r}, expected one in which a line end is a single byte: "
        f"convert the file with iconv -f {encoding} -t utf-8"
    )
    assert f"{path}:1: found the" in error_of(csv_batches(path, ["title"])) or (
        "expected also 'title'" in error_of(csv_batches(path, ["title"]))
    )


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "items.csv"
    path.write_bytes("id,title\n1,Café\n".encode("utf-8-sig"))
    for encoding in ("utf-8", "utf-8-sig"):
        assert rows_of(csv_batches(path, ["id"], encoding=encoding)) == [{"id": "1"}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "id;title\n1;a\n",
            ": found the header 'id;title', separated by a semicolon, expected a comma, "
            "or delimiter=';'",
        ),
        (
            '"id"\t"title"\n1\ta\n',
            ': found the header \'"id"\\t"title"\', separated by a tab, expected a comma, '
            "or delimiter='tab'",
        ),
        ("sku,title\n1,a\n", ": found the columns sku, title, expected also 'id'"),
        ("sku\n1\n", ": found the columns sku, expected also 'id', 'title'"),
        ("", ": found the columns none, expected also 'id', 'title'"),
        (
            "id,title\r1,a\r2,b\r",
            ":1: found lines that end in CR alone, expected LF or CR LF: convert the file with "
            "tr '\\r' '\\n'",
        ),
        (
            '"id","title"\r"1","a"\r',
            ":1: found lines that end in CR alone, expected LF or CR LF: convert the file with "
            "tr '\\r' '\\n'",
        ),
        ("id,title,id\n1,a,2\n", ": found 2 columns named 'id', expected 1 of that name"),
        (
            "id,title\n1,a\n\n2,b,c\n",
            ":4: found 3 cells, expected 2 as in the header",
        ),
        (
            'id,title\n1,"open\n2,b\n3,c\n',
            ":2: found unexpected end of data, expected cells quoted as in RFC 4180, "
            "or quoting = none where quotes are letters",
        ),
        (
            'id,title\n1,"a" b\n',
            ":2: found ',' expected after '\"', expected cells quoted as in RFC 4180, "
            "or quoting = none where quotes are letters",
        ),
    ],
)
def test_a_bad_csv_is_named(tmp_path, text, expected):
    path = write(tmp_path / "items.csv", text)
    assert error_of(csv_batches(path, ["id", "title"])) == f"{path}{expected}"


def test_white_space_around_the_names_and_after_the_delimiters(tmp_path):
    path = write(tmp_path / "items.csv", 'id, title , "a, b"\n1, "Oak, large", x\n2, Desk, \n')
    assert rows_of(csv_batches(path, ["id", "title", "a, b"])) == [
        {"id": "1", "title": "Oak, large", "a, b": "x"},
        {"id": "2", "title": "Desk", "a, b": ""},
    ]
    path = write(tmp_path / "items.csv", "id,title ,title\n1, a,b\n")
    assert rows_of(csv_batches(path, ["title ", "title"])) == [{"title ": " a", "title": "b"}]


def test_a_name_that_the_header_has_several_times(tmp_path):
    path = write(tmp_path / "items.csv", "l,id,l,l\nA,1,B,C\n")
    (batch,) = csv_batches(path, ["l", "id", "l", "l"])
    assert batch.schema.names == ["l", "id", "l", "l"]
    assert [column.to_pylist() for column in batch.columns] == [["A"], ["1"], ["B"], ["C"]]
    for asked in (["id", "l"], ["l", "l"], ["l", "l", "l", "l"]):
        count = asked.count("l")
        expected = f"{path}: found 3 columns named 'l', expected {count} of that name"
        assert error_of(csv_batches(path, asked)) == expected
    assert "found 3 columns named 'l'" in error_of(csv_batches(path, ["id"], optional=["l"]))


def test_json_lines_that_end_in_a_carriage_return(tmp_path):
    path = write(tmp_path / "items.jsonl", '{"id": "a"}\r{"id": "b"}\r')
    assert [row["id"] for row in rows_of(json_batches(path, SCHEMA))] == ["a", "b"]
    path = write(tmp_path / "items.jsonl", '{"id": "a"}\r{"id": 7}\r')
    assert "found lines that end in CR alone" in error_of(json_batches(path, SCHEMA))


def test_parquet_is_read_in_order_and_in_batches(tmp_path):
    path = tmp_path / "items.parquet"
    pa.parquet.write_table(pa.Table.from_pylist([row | {"n": 1} for row in ROWS]), path)
    batches = list(parquet_batches(path, ["path"], optional=["id", "x"]))
    assert [{"id": row["id"], "path": row["path"]} for row in rows_of(batches)] == ROWS
    assert batches[0].schema.names == ["id", "path"] or batches[0].schema.names == ["path", "id"]
    assert max(map(len, batches)) <= 1000


def test_bad_parquet(tmp_path):
    path = tmp_path / "items.parquet"
    pa.parquet.write_table(pa.table({"sku": ["a"] * 1000, "name": ["b"] * 1000}), path)
    assert error_of(parquet_batches(path, ["sku", "title"])) == (
        f"{path}: found the columns sku, name, expected also 'title'"
    )
    path.write_bytes(path.read_bytes()[:-20])
    assert error_of(parquet_batches(path, ["sku"])).startswith(f"{path}: found Parquet magic bytes")
    path.write_bytes(b"")
    assert error_of(parquet_batches(path, ["sku"])).startswith(f"{path}: found Parquet file size")
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    pa.parquet.write_table(pa.table({"sku": bad}), path)
    assert "UTF8" in error_of(parquet_batches(path, ["sku"]))


READERS = {
    "items.jsonl": lambda path: json_batches(path, SCHEMA),
    "items.csv": lambda path: csv_batches(path, ["id"]),
    "items.parquet": lambda path: parquet_batches(path, ["id"]),
}


@pytest.fixture(params=READERS)
def readable(request, tmp_path):
    path = tmp_path / request.param
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.Table.from_pylist(ROWS), path)
    elif path.suffix == ".csv":
        write(path, "id\n" + "".join(f"{row['id']}\n" for row in ROWS))
    else:
        write(path, json_lines(ROWS))
    return path


def test_a_file_that_changes_while_it_is_read_is_an_error(readable):
    batches = READERS[readable.name](readable)
    next(batches)
    with open(readable, "ab") as file:
        file.write(b"\n")
    expected = f"{readable}: found that it changed while it was read, expected a finished file"
    assert error_of(batches) == expected

    batches = READERS[readable.name](readable)  # the same size, another time
    if readable.suffix != ".parquet":  # whose end is now damaged
        next(batches)
        os.utime(readable, ns=(0, 0))
        assert error_of(batches) == expected


def test_a_file_that_is_broken_because_it_is_being_written_is_said_to_change(tmp_path):
    path = write(tmp_path / "items.csv", "id\n")

    def read_and_fail():
        with reading.reading(path):
            path.write_text("id\n1,")
            raise InputError("row", "1 cell", "2")

    with pytest.raises(InputError, match="found that it changed while it was read"):
        read_and_fail()


def test_a_missing_file_is_an_error(readable):
    missing = readable.with_name(f"no-{readable.name}")
    assert error_of(READERS[readable.name](missing)) == (
        f"{missing}: found no such file, expected a file to read"
    )


def test_the_files_of_a_folder(tmp_path):
    for name in ("b.parquet", "a.parquet", "a.txt", "sub/c.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert files_of(tmp_path, "*.parquet") == [
        tmp_path / "a.parquet",
        tmp_path / "b.parquet",
        tmp_path / "sub/c.parquet",
    ]
    assert files_of(tmp_path / "a.txt", "*.parquet") == [tmp_path / "a.txt"]
    with pytest.raises(InputError, match=r"found no file \*\.csv, expected at least one"):
        files_of(tmp_path, "*.csv")


INCHES = 'id\ttitle\tpath\n1\tHose\tA\n2\t"24 in hose\tA\n3\tPipe\tA\n4\tTap 3"\tA\n5\tRod\tA\n'


def test_a_quote_that_swallows_rows_is_refused_with_the_line_of_its_row(tmp_path):
    path, names = write(tmp_path / "feed.tsv", INCHES), ["id", "title", "path"]
    assert error_of(csv_batches(path, names, "\t")).startswith(
        f"{path}:3: found a quote that takes this and the next 2 rows for one, expected "
    )
    letters = rows_of(csv_batches(path, names, "\t", quoting="none"))
    assert [tuple(row.values()) for row in letters] == [
        tuple(line.split("\t")) for line in INCHES.splitlines()[1:]
    ]
    assert len(rows_of(csv_batches(path, names, "\t", quoting="rfc4180"))) == 3


def test_a_cell_of_several_lines_is_one_cell(tmp_path):
    text = 'id,title,path\n1,"Mug, blue,\nred, green, white",A\n2,"a\nb",A\n'
    found = rows_of(csv_batches(write(tmp_path / "items.csv", text), ["title"]))
    assert [row["title"] for row in found] == ["Mug, blue,\nred, green, white", "a\nb"]


def test_a_row_of_another_length_is_named_where_its_quote_opens(tmp_path):
    path = write(tmp_path / "items.csv", 'id,title,path\n1,a,A\n2,"b,A\n3,c,A,"\n4,d,A\n')
    assert error_of(csv_batches(path, ["id"])) == (
        f"{path}:3: found 2 cells, expected 3 as in the header"
    )


def test_a_name_twice_is_an_error_where_it_is_asked_for(tmp_path):
    table = pa.table([["1"], ["2"], ["a"], ["b"]], ["id", "id", "title", "note"])
    path = tmp_path / "items.parquet"
    pa.parquet.write_table(table, path)
    assert error_of(parquet_batches(path, ["id", "title"])) == (
        f"{path}: found 2 columns named 'id', expected 1 of that name"
    )
    assert rows_of(parquet_batches(path, ["title"])) == [{"title": "a"}]
