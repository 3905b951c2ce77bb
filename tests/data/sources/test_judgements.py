import collections

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.data.sources.judgements import (
    JudgementCounts,
    read_judgements,
    split_judgements,
)
from catid2_jax.errors import InputError
from catid2_jax.types import Query

NAMES = ("query_id", "query", "product_id", "label", "split")
DOCUMENTS = {"a", "b", "c"}

rows = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from(["a", "b", "c", "gone"]),
        st.sampled_from(["E", "S", "C", "I"]),
        st.sampled_from(["train", "dev", "test"]),
    ),
    max_size=20,
)


def batch(*rows):
    return pa.RecordBatch.from_pylist([dict(zip(NAMES, row, strict=False)) for row in rows])


def split(*batches, documents=DOCUMENTS, test_share=0.2):
    counts = JudgementCounts()
    return split_judgements(batches, documents, test_share, counts), counts


def test_labels_in_letters_words_and_grades():
    labels = ["E", "S", "C", "I", "Exact", "Substitute", "Complement", "Irrelevant", 3, 2, 1, 0]
    ids = [f"p{place}" for place in range(12)]
    found, _ = split(
        *(batch(("q", "mug", i, label, "test")) for i, label in zip(ids, labels, strict=True)),
        documents=ids,
    )
    assert found == {
        "test": ([Query("q", "mug")], {"q": dict(zip(ids, [3, 2, 1, 0] * 3, strict=True))})
    }


@given(rows)
def test_judgements_against_rows_picked_one_by_one(rows):
    texts = {1: "mug", 2: "blue &amp; mug", 3: None, 4: " "}
    found, counts = (
        split(batch(*((q, texts[q], d, g, s) for q, d, g, s in rows)))
        if rows
        else (
            {},
            JudgementCounts(),
        )
    )
    expected, seen = collections.defaultdict(dict), collections.Counter()
    for query, document, label, place in rows:
        if query > 2:
            seen["without_query"] += 1
        elif document == "gone":
            seen["on_products_left_out"] += 1
        elif (str(query), document) in expected[place]:
            seen["repeated"] += 1
        else:
            seen["judgements"] += 1
            expected[place][str(query), document] = {"E": 3, "S": 2, "C": 1, "I": 0}[label]
    assert {
        place: {(q, d): grade for q, grades in qrels.items() for d, grade in grades.items()}
        for place, (_, qrels) in found.items()
    } == {place: pairs for place, pairs in expected.items() if pairs}
    for queries, qrels in found.values():
        assert [query.id for query in queries] == list(qrels)
        assert {query.text for query in queries} <= {"mug", "blue & mug"}
    assert counts == JudgementCounts(**seen)


def test_queries_without_splits_are_parted_by_their_ids_alone():
    ids = [f"q{n}" for n in range(4000)]
    pairs = [batch((i, "mug", d, "E")) for i in ids for d in "ab"]
    found, _ = split(*pairs, test_share=0.25)
    test = {query.id for query in found["test"][0]}
    assert set(found) == {"train", "test"}
    assert not test & set(found["train"][1])
    assert 0.22 < len(test) / len(ids) < 0.28  # four standard deviations
    assert all(len(grades) == 2 for _, qrels in found.values() for grades in qrels.values())
    fewer, _ = split(*reversed(pairs[:1000]), test_share=0.25)
    assert {query.id for query in fewer["test"][0]} == test & set(ids[:500])
    assert set(split(*pairs[:10], test_share=0.0)[0]) == {"train"}
    assert set(split(*pairs[:10], test_share=1.0)[0]) == {"test"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            ("q", "mug", "a", "Good", "train"),
            "judgements: found label 'Good', expected one of E, S, C, I, ",
        ),
        (
            ("q", "mug", "a", None, "train"),
            "judgements: found label None, expected one of E, S, C, I, ",
        ),
        (
            ("q", "mug", "a", "E", "val"),
            "judgements: found split 'val', expected one of train, dev, test",
        ),
        (
            ("q 2", "cup", "a", "E", "train"),
            "judgements: row 2, column 'query_id': found id 'q 2', expected no white space",
        ),
        (
            ("q", "cup", "a", "E", "train"),
            "judgements: found the texts 'mug' and 'cup' for query 'q', expected one text",
        ),
    ],
)
def test_a_bad_judgement_is_an_error(row, expected):
    with pytest.raises(InputError) as caught:
        split(batch(("q", "mug", "b", "E", "train"), row))
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_one_query_may_stand_in_two_splits_with_two_texts():
    found, _ = split(batch(("q", "mug", "a", "E", "train"), ("q", "Mug", "a", "E", "test")))
    assert [found[place][0] for place in ("train", "test")] == [
        [Query("q", "mug")],
        [Query("q", "Mug")],
    ]


@pytest.mark.parametrize("splits", [True, False])
@pytest.mark.parametrize("name", ["j.parquet", "j.csv", "j.tsv", "j.csv.gz", "j.tsv.zst"])
def test_files_of_judgements(tmp_path, name, splits):
    names = NAMES if splits else NAMES[:4]
    rows = [("1", "mug", "a", "E", "dev"), ("2", 'a "blue", cup', "b", "0", "test")]
    path = str(tmp_path / name)
    if name.endswith(".parquet"):
        table = pa.Table.from_pylist([dict(zip(names, row, strict=False)) for row in rows])
        pa.parquet.write_table(table, path)
    else:
        mark = "," if ".csv" in name else "\t"
        lines = [names, rows[0][: len(names)], ("2", '"a ""blue"", cup"', "b", "0", "test")]
        text = "".join(mark.join(line[: len(names)]) + "\n" for line in lines)
        with pa.output_stream(path, compression="detect") as file:
            file.write(text.encode())
    read = [row for batch in read_judgements(path) for row in batch.to_pylist()]
    assert read == [dict(zip(names, row, strict=False)) for row in rows]


def test_a_file_of_another_kind_is_an_error():
    with pytest.raises(InputError, match=r"j.xlsx: found another suffix, expected one of .parquet"):
        read_judgements("j.xlsx")


def test_judgements_of_other_ids_stop_with_examples_of_both_sides():
    pairs = [("q", "mug", document, "E", "train") for document in ("x1", "x2", "a")]
    counts = JudgementCounts()
    with pytest.raises(InputError) as caught:
        split_judgements([batch(*pairs)], ["a", "b"], 0.2, counts, left_out=["x9"])
    assert str(caught.value) == (
        "judgements: found 2 of 3 on no product of the source, such as 'x1', 'x2', expected ids of "
        "its products, such as 'a', 'b'"
    )
    # Products that the source has and the catalogue has not are no strangers; half is enough.
    for left_out, rows in ((["x1", "x2"], pairs), ([], pairs[1:])):
        found = split_judgements([batch(*rows)], ["a", "b"], 0.2, JudgementCounts(), left_out)
        assert found["train"][1] == {"q": {"a": 3}}


def test_ids_of_judgements_get_what_those_of_products_get():
    rows = [(" q\u200b", "mug", '="a"', " E ", "train"), ("q", "mug", "b\u00a0", "S", "train ")]
    assert split(batch(*rows))[0]["train"][1] == {"q": {"a": 3, "b": 2}}
    floats = pa.RecordBatch.from_pydict(
        {"query_id": [1.0], "query": ["mug"], "product_id": [7.0], "label": [3.0]}
    )
    found, _ = split(floats, documents=["7"], test_share=0)
    assert found["train"] == ([Query("1", "mug")], {"1": {"7": 3}})


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_delimiter_and_encoding_are_found_or_told(tmp_path, delimiter, encoding):
    path = tmp_path / "j.csv"
    rows = [NAMES[:4], ("1", "Café", "a", "E")]
    path.write_text("".join(delimiter.join(row) + "\n" for row in rows), encoding)
    told = "tab" if delimiter == "\t" else delimiter
    for found in (
        read_judgements(str(path), products_encoding="cp1252"),
        read_judgements(str(path), told, encoding),
    ):
        assert [batch.to_pylist() for batch in found] == [[dict(zip(*rows, strict=True))]]
    with pytest.raises(InputError, match="judgements_delimiter"):
        read_judgements(str(path), "::")
