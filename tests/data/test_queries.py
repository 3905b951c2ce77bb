import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.data.queries import (
    read_qrels,
    read_queries,
    relevant_grades,
    write_qrels,
    write_queries,
)
from catid2_jax.errors import InputError
from catid2_jax.types import Query

texts = st.text(max_size=12)
ids = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6)
query_lists = st.lists(
    st.builds(
        Query,
        id=ids,
        text=texts.filter(str.strip),
        extra=st.dictionaries(texts.filter(lambda key: key not in ("id", "text")), texts),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda query: query.id,
)
qrels_dicts = st.dictionaries(
    ids,
    st.dictionaries(ids, st.integers(0, 3), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def error_of(read, path, *arguments):
    with pytest.raises(InputError) as caught:
        read(path, *arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json"])
def test_queries_are_read_in_order(tmp_path, suffix):
    path = write(
        tmp_path / f"queries{suffix}",
        '{"id": "q2", "text": "blue mug", "source": "esci"}\n\n{"id": 1, "text": "pén"}\n',
    )
    assert read_queries(path) == [
        Query("q2", "blue mug", {"source": "esci"}),
        Query("1", "pén"),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"3", "found 3, expected a JSON object"),
        (b"{", "found invalid JSON ("),
        (b'{"id": "\xff"}', "expected UTF-8"),
        (b'{"id": "q2"}', "found the fields 'id', expected also 'text'"),
        (b'{"text": "mug"}', "expected also 'id'"),
        (b"{}", "found the fields 'none', expected also 'id'"),
        (b'{"id": "q 2", "text": "mug"}', "found id 'q 2', expected text without white space"),
        (b'{"id": "q2", "text": " "}', "found text ' ', expected text that is not blank"),
        (b'{"id": "q2", "text": null}', "found text None, which is null, expected text"),
        (b'{"id": "q2", "text": 12345}', "found text 12345, which is a number, expected text"),
        (b'{"id": "q2", "text": [1]}', "found text [1], which is a list, expected text"),
        (b'{"id": "q1", "text": "pen"}', "found id 'q1' again, expected unique ids"),
    ],
)
def test_a_bad_query_is_named_with_its_line(tmp_path, line, expected):
    path = write(tmp_path / "queries.jsonl", b'{"id": "q1", "text": "mug"}\n\n' + line + b"\n")
    message = error_of(read_queries, path)
    assert message.startswith(f"{path}:3: ")
    assert expected in message
    if "again" in expected:
        assert message.endswith(f"(first at {path}:1)")


def test_lines_that_end_in_a_carriage_return(tmp_path):
    expected = "found lines that end in CR alone, expected LF or CR LF: convert the file with tr"
    path = write(tmp_path / "queries.jsonl", b'{"id": "q1", "text": "mug"}\r{"id": "q2"}\r')
    assert error_of(read_queries, path).startswith(f"{path}:1: {expected}")
    path = write(tmp_path / "qrels.txt", b"q1 0 p1 3\rq1 0 p2 2\r")
    assert error_of(read_qrels, path).startswith(f"{path}:1: {expected}")


def test_files_that_hold_no_query(tmp_path):
    path = write(tmp_path / "queries.jsonl", "\n")
    assert error_of(read_queries, path) == f"{path}: found no query, expected at least one"
    assert "found no such file" in error_of(read_queries, tmp_path / "none.jsonl")
    for read_or_write in (read_queries, lambda path: write_queries(path, [])):
        assert "expected one of .jsonl" in error_of(read_or_write, tmp_path / "queries.csv")


@settings(deadline=None, max_examples=30)
@given(queries=query_lists, suffix=st.sampled_from([".jsonl", ".jsonl.gz"]))
def test_written_queries_are_read_again(tmp_path_factory, queries, suffix):
    path = tmp_path_factory.mktemp("queries") / f"queries{suffix}"
    write_queries(path, iter(queries))
    assert read_queries(path) == queries


@settings(deadline=None, max_examples=50)
@given(
    good=st.integers(0, 3),
    bad=st.binary(min_size=1).filter(lambda line: b"\n" not in line and line.strip()),
)
def test_any_bad_query_line_is_an_input_error_with_its_number(tmp_path_factory, good, bad):
    lines = [json.dumps({"id": n, "text": "mug"}).encode() for n in range(good)]
    path = write(tmp_path_factory.mktemp("bad") / "queries.jsonl", b"\n".join([*lines, bad]))
    assert error_of(read_queries, path).startswith(f"{path}:{good + 1}: found ")


@pytest.mark.parametrize("name", ["qrels.txt", "qrels.txt.gz"])
def test_qrels_are_read_by_query(tmp_path, name):
    text = "q1 0 p1 3\n\nq2\t0\tp1   0\r\nq1 0 p2 2\nq1 0 p1 3\n"
    expected = {"q1": {"p1": 3, "p2": 2}, "q2": {"p1": 0}}
    path = write(tmp_path / name, text)
    assert read_qrels(path) == expected
    assert read_qrels(path, ["q1", "q2"], {"p1": None, "p2": None}.keys()) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("q1 0 p2", "found 3 columns, expected 4: query, 0, document, grade"),
        ("q1 Q0 p2 1 0.5 tag", "found 6 columns, expected 4"),
        ("q1 0 p2 4", "found grade '4', expected one of 3, 2, 1, 0"),
        ("q1 0 p2 -1", "found grade '-1', expected one of"),
        ("q1 0 p2 2.0", "found grade '2.0', expected one of"),
        ("q1 0 p2 E", "found grade 'E', expected one of"),
        ("q1 0 p2 \u0663", "found grade '\u0663', expected one of"),
        ("q3 0 p2 1", "found query 'q3', expected one of the queries"),
        ("q1 0 p3 1", "found document 'p3', expected one of the catalogue"),
        ("q1 0 p1 2", "found grade 2 for 'q1' and 'p1', expected 3 as before"),
        (b"q1 0 \xff 2", r"found the byte b'\xff' at column 6, expected UTF-8"),
    ],
)
def test_a_bad_judgement_is_named_with_its_line(tmp_path, line, expected):
    line = line if isinstance(line, bytes) else line.encode()
    path = write(tmp_path / "qrels.txt", b"q1 0 p1 3\n\n" + line + b"\n")
    message = error_of(read_qrels, path, ["q1", "q2"], ["p1", "p2"])
    assert message.startswith(f"{path}:3: ")
    assert expected in message


def test_files_that_hold_no_judgement(tmp_path):
    path = write(tmp_path / "qrels.txt", "")
    assert error_of(read_qrels, path) == f"{path}: found no judgement, expected at least one"
    assert "found no such file" in error_of(read_qrels, tmp_path / "none.txt")
    path = write(tmp_path / "plain.txt.gz", "")
    path.write_bytes(b"q1 0 p1 3\n")
    assert "found a damaged gzip" in error_of(read_qrels, path)


@settings(deadline=None, max_examples=30)
@given(qrels=qrels_dicts, name=st.sampled_from(["qrels.txt", "qrels.txt.gz"]))
def test_written_qrels_are_read_again(tmp_path_factory, qrels, name):
    path = tmp_path_factory.mktemp("qrels") / name
    for given_as in (qrels, iter(qrels.items())):
        write_qrels(path, given_as)
        read = read_qrels(path, qrels.keys())
        assert read == qrels
        assert list(read) == list(qrels)


@settings(deadline=None, max_examples=50)
@given(
    good=st.integers(0, 3),
    bad=(
        st.lists(ids, min_size=1, max_size=6).map(lambda columns: " ".join(columns).encode())
        | st.binary(min_size=1)
    ).filter(lambda line: b"\n" not in line and line.strip() and line[-1:] not in b"0123 \t\r\f\v"),
)
def test_any_bad_judgement_is_an_input_error_with_its_number(tmp_path_factory, good, bad):
    lines = [b"q1 0 p%d 2" % n for n in range(good)]
    path = write(tmp_path_factory.mktemp("bad") / "qrels.txt", b"\n".join([*lines, bad]))
    assert error_of(read_qrels, path).startswith(f"{path}:{good + 1}: found ")


@pytest.mark.parametrize(
    ("qrels", "expected"),
    [
        ({"q 1": {"p1": 3}}, "query 'q 1': found id 'q 1', expected text without white space"),
        ({"q1": {"p 1": 3}}, "query 'q1': found id 'p 1', expected text without white space"),
        ({"q1": {"p1": 4}}, "query 'q1': found grade 4, expected one of 3, 2, 1, 0"),
    ],
)
def test_judgements_that_could_not_be_read_are_not_written(tmp_path, qrels, expected):
    path = write(tmp_path / "qrels.txt", "q0 0 p0 1\n")
    with pytest.raises(InputError, match=expected):
        write_qrels(path, {"q0": {"p0": 2}, **qrels})
    assert read_qrels(path) == {"q0": {"p0": 1}}
    assert list(tmp_path.iterdir()) == [path]


def test_relevant_grades():
    assert relevant_grades(("E", "S")) == {3, 2}
    assert relevant_grades("CI") == {1, 0}
    with pytest.raises(InputError, match="labels: found 'X', expected some of E, S, C, I"):
        relevant_grades(("E", "X"))
    with pytest.raises(InputError, match="labels: found no label"):
        relevant_grades(())


def test_nothing_is_not_written_since_it_could_not_be_read(tmp_path):
    for write_nothing in (
        lambda: write_queries(tmp_path / "q.jsonl", []),
        lambda: write_qrels(tmp_path / "qrels.txt", {}),
        lambda: write_qrels(tmp_path / "qrels.txt", {"q1": {}}),
    ):
        with pytest.raises(InputError, match="to write, expected at least one"):
            write_nothing()
    assert not list(tmp_path.iterdir())


@given(
    queries=st.lists(
        st.builds(
            Query,
            st.text(max_size=4),
            st.text(max_size=4),
            st.dictionaries(st.sampled_from(["id", "brand"]), st.text(max_size=2)),
        ),
        max_size=3,
        unique_by=lambda query: query.id,
    )
)
def test_what_is_written_is_read_again_or_refused(tmp_path_factory, queries):
    path = tmp_path_factory.mktemp("queries") / "q.jsonl"
    try:
        write_queries(path, queries)
    except InputError:
        blank = any(not query.text.strip() or query.id.split() != [query.id] for query in queries)
        odd = any("\ufeff" in query.id for query in queries)
        assert not queries or blank or odd
        assert not path.exists()
        return
    for read, query in zip(read_queries(path), queries, strict=True):
        assert (read.id, read.text) == (query.id, query.text)
