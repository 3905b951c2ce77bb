import gzip
import itertools

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import read_run, write_run

ids = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6)
float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def rankings(draw):
    documents = draw(st.lists(ids, unique=True, max_size=6))
    size = len(documents)
    scores = draw(st.lists(float32s, min_size=size, max_size=size))
    return list(zip(documents, sorted(scores, reverse=True), strict=True))


runs = st.dictionaries(ids, rankings(), max_size=3)


def write(path, data):
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def error_of(path):
    with pytest.raises(InputError) as caught:
        read_run(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_form_is_trecs(tmp_path):
    path = tmp_path / "run.trec"
    write_run(path, [("q1", [("a", 0.5), ("b", np.float32(0.1))]), ("q0", [("a", -2)])], "ours")
    assert path.read_text() == (
        "q1 Q0 a 1 0.5 ours\nq1 Q0 b 2 0.100000001 ours\nq0 Q0 a 1 -2 ours\n"
    )
    assert [tuple(row)[:2] for row in ir_measures.read_trec_run(str(path))] == [
        ("q1", "a"),
        ("q1", "b"),
        ("q0", "a"),
    ]


@settings(deadline=None, max_examples=40)
@given(run=runs, name=st.sampled_from(["run.trec", "run.trec.gz"]))
def test_what_is_written_is_read_again_to_the_bit(tmp_path_factory, run, name):
    path = tmp_path_factory.mktemp("run") / name
    write_run(path, iter(run.items()), "ours")
    read = read_run(path)
    found = {query: ranking for query, ranking in run.items() if ranking}
    assert list(read) == list(found)
    assert read == found  # Python floats that float32 holds exactly


def test_neighbouring_float32_stay_apart(tmp_path):
    start = np.float32([1.0, 0.1, 3e38, 1e-40, 16777216])
    scores = sorted({*start, *np.nextafter(start, np.float32(0))}, reverse=True)
    assert len(scores) == 10
    ranking = [(f"d{n}", score) for n, score in enumerate(scores)]
    write_run(tmp_path / "run.trec", [("q1", ranking)], "ours")
    assert read_run(tmp_path / "run.trec") == {"q1": ranking}


def test_rows_are_ordered_by_rank(tmp_path):
    path = write(
        tmp_path / "run.trec",
        b"q1 Q0 c 10 0.1 x\nq2 Q0 a 0 5 x\n\nq1 Q0 a 2 3e-1\tx\r\nq1 Q0 b 9 0.1 x\n",
    )
    assert read_run(path) == {
        "q1": [("a", np.float32(0.3)), ("b", np.float32(0.1)), ("c", np.float32(0.1))],
        "q2": [("a", 5.0)],
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"q1 0 b 3", "found 4 columns, expected 6: query, Q0, document, rank, score, tag"),
        (b"q1 Q0 b 2 0.5 our system", "found 7 columns, expected 6"),
        (b"q1 Q0 b two 0.5 x", "found rank 'two', expected an integer"),
        (b"q1 Q0 b 2.0 0.5 x", "found rank '2.0', expected an integer"),
        (b"q1 Q0 b " + b"2" * 5000 + b" 0.5 x", "found rank '2222"),
        (b"q1 Q0 b 2 high x", "found score 'high', expected a finite float32"),
        (b"q1 Q0 b 2 nan x", "found score 'nan', expected a finite float32"),
        (b"q1 Q0 b 2 -inf x", "found score '-inf', expected a finite float32"),
        (b"q1 Q0 b 2 1e39 x", "found score '1e39', expected a finite float32"),
        (b"q1 Q0 b 1 0.5 x", "found rank 1 of query 'q1' again, expected each rank once"),
        (b"q1 Q0 a 2 0.5 x", "found document 'a' of query 'q1' again, expected each"),
        (b"q1 Q0 \xff 2 0.5 x", r"found the byte b'\xff' at column 7, expected UTF-8"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path, line, expected):
    path = write(tmp_path / "run.trec", b"q1 Q0 a 1 0.5 x\n\n" + line + b"\n")
    message = error_of(path)
    assert message.startswith(f"{path}:3: ")
    assert expected in message


@settings(deadline=None, max_examples=60)
@given(
    good=st.integers(0, 3),
    bad=(
        st.lists(ids, min_size=1, max_size=5).map(lambda columns: " ".join(columns).encode())
        | st.tuples(ids, st.floats()).map(lambda t: f"{t[0]} Q0 {t[0]} 1.5 {t[1]} x".encode())
        | st.binary(min_size=1).filter(lambda line: len(line.decode(errors="replace").split()) != 6)
    ).filter(lambda line: b"\n" not in line and line.strip()),
)
def test_any_bad_row_is_an_input_error_with_its_number(tmp_path_factory, good, bad):
    lines = [b"q1 Q0 a%d %d 0 x" % (n, n) for n in range(good)]
    path = write(tmp_path_factory.mktemp("bad") / "run.trec", b"\n".join([*lines, bad]))
    assert error_of(path).startswith(f"{path}:{good + 1}: found ")


def test_files_that_hold_no_row(tmp_path):
    assert read_run(write(tmp_path / "run.trec", b"\n")) == {}
    assert "found no such file" in error_of(tmp_path / "none.trec")
    path = write(tmp_path / "run.trec.gz", b"q1 Q0 a 1 0.5 x\n")
    path.write_bytes(path.read_bytes()[:-4])
    assert "found a damaged gzip" in error_of(path)


@pytest.mark.parametrize(
    ("rows", "tag", "expected"),
    [
        ([("q1", [("a", 1), ("a", 0)])], "x", "query 'q1': found document 'a' twice, expected it"),
        (
            [("q1", [("a", 1), ("b", 2)])],
            "x",
            r"found score 2.0 after 1.0, expected scores that never",
        ),
        ([("q1", [("a", float("nan"))])], "x", "found score nan, expected a finite float32"),
        ([("q1", [("a", float("inf"))])], "x", "found score inf, expected a finite float32"),
        ([("q1", [("a", 1e300)])], "x", r"found score 1e\+300, expected a finite float32"),
        ([("q 1", [("a", 1)])], "x", "found id 'q 1', expected text without white space"),
        ([("q1", [("a b", 1)])], "x", "found id 'a b', expected text without white space"),
        ([("q0", [("a", 1)])], "x", "query 'q0': found a second one, expected each query once"),
        ([], "our system", "^tag: found id 'our system', expected text without white"),
        ([], "", "^tag: found id '', expected text without white space"),
    ],
)
def test_rankings_that_could_not_be_read_are_not_written(tmp_path, rows, tag, expected):
    path = write(tmp_path / "run.trec", b"old")
    with pytest.raises(InputError, match=expected):
        write_run(path, itertools.chain([("q0", [("a", 1.0)])], rows), tag)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
