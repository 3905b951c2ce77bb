import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.data.catalog import stream_products
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.data.sources.dataset import (
    OTHER_CATEGORIES,
    ProductCounts,
    Source,
    WritingConfig,
    clean_paths,
    report,
    write_dataset,
)
from catid2_jax.data.sources.judgements import JudgementCounts
from catid2_jax.data.text import clean_text
from catid2_jax.errors import InputError
from catid2_jax.progress import console
from catid2_jax.types import Product, Query

PATH = ["Home", "Cups"]


def batch(*rows, fields=("brand", "notes")):
    """A batch of (id, title, categories, *fields)."""
    columns = list(zip(*rows, strict=True))
    kinds = [pa.string(), pa.string(), pa.list_(pa.string()), *[pa.string()] * len(fields)]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, ["id", "title", "categories", *fields])


def judged(*rows):
    names = ("query_id", "query", "product_id", "label", "split")
    return pa.RecordBatch.from_pylist([dict(zip(names, row, strict=True)) for row in rows])


MUG = ("p1", "Mug", PATH, "Acme", None)


def test_products_are_cleaned_and_what_is_left_out_is_counted(tmp_path):
    source = Source(
        [
            batch(
                (" p1 ", "Mug &amp; lid", ["Home", " Cups"], "Acme", "a<br>b"),
                (None, "No id", PATH, None, None),
                ("", "No id", PATH, None, None),
                ("p2", None, PATH, None, None),
                ("p3", "<p></p>", PATH, None, None),
                ("p4", "No path", None, None, None),
                ("p5", "Empty path", ["", " "], None, None),
                (None, None, None, None, None),
                ("p1", "Again", PATH, None, None),
            ),
            batch(("p6", "Pen", ["Office"], None, None), ("p2", "Usable now", PATH, None, "x")),
            batch(("p6", "Again", PATH, None, None)),
        ]
    )
    counts, judgements = write_dataset(source, tmp_path)
    assert list(stream_products(tmp_path / "catalog.parquet")) == [
        Product("p1", "Mug & lid", "brand: Acme; notes: a b", ("Home", "Cups")),
        Product("p6", "Pen", "", ("Office",)),
        Product("p2", "Usable now", "notes: x", ("Home", "Cups")),
    ]
    assert counts == ProductCounts(
        products=3, without_id=3, without_title=2, without_category=2, repeated=2
    )
    assert judgements == JudgementCounts()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.parquet"]


def test_integer_ids_become_their_digits(tmp_path):
    rows = {"id": [7, None], "title": ["a", "b"], "categories": [PATH, PATH]}
    write_dataset(Source([pa.RecordBatch.from_pydict(rows)]), tmp_path)
    assert [product.id for product in stream_products(tmp_path / "catalog.parquet")] == ["7"]


def test_long_fields_are_cut_and_counted(tmp_path):
    rows = batch(("p1", "A long title", PATH, "Acme Ltd", "abc"), ("p2", "B", PATH, "Acme", "abcd"))
    counts, _ = write_dataset(Source([rows]), tmp_path, WritingConfig(max_characters=4))
    assert [(p.title, p.text) for p in stream_products(tmp_path / "catalog.parquet")] == [
        ("A long title", "brand: Acme; notes: abc"),
        ("B", "brand: Acme; notes: abcd"),
    ]
    assert counts.values_cut == 1


def test_what_cleaning_keeps_or_repairs_is_counted(tmp_path):
    rows = batch(
        ("p1", "Kabel <NEU>", PATH, "It\x92s", "a <b>b</b>"),
        ("p2", "Pen", PATH, "<x> <y>", "5\x80 <z>"),
        (None, "Left out <NEU>", PATH, "\x80", None),
    )
    counts, _ = write_dataset(Source([rows]), tmp_path)
    assert counts == ProductCounts(
        products=2, without_id=1, values_repaired=2, values_with_angle_brackets=3
    )


def test_gaps_in_a_path_are_closed_up_and_counted(tmp_path):
    paths = [["A", None, "B"], ["", "A"], ["A", "B", None, " "], ["<p>", "A"], ["A"]]
    rows = batch(*((f"p{n}", "Pen", path, None, None) for n, path in enumerate(paths)))
    counts, _ = write_dataset(Source([rows]), tmp_path)
    found = [product.categories for product in stream_products(tmp_path / "catalog.parquet")]
    assert found == [("A", "B"), ("A",), ("A", "B"), ("A",), ("A",)]
    assert counts == ProductCounts(products=5, with_gaps_in_path=3)


def test_other_categories_are_a_field_of_their_own(tmp_path):
    rows = batch(MUG, ("p2", "Pen", PATH, None, None))
    others = pa.array([["X > Y", "Z"], None], pa.list_(pa.string()))
    counts, _ = write_dataset(Source([rows.append_column(OTHER_CATEGORIES, others)]), tmp_path)
    mug, pen = stream_products(tmp_path / "catalog.parquet")
    assert (mug.text, mug.extra) == ("brand: Acme", {"other_categories": ["X > Y", "Z"]})
    assert pen.extra == {"other_categories": None}
    assert counts == ProductCounts(products=2, with_several_paths=1)


def test_the_readers_counts_are_reported_with_the_writers(tmp_path):
    source = Source([batch(MUG)], counts=ProductCounts(variants=3))
    counts, _ = write_dataset(source, tmp_path)
    assert counts == ProductCounts(products=1, variants=3)


def test_judgements_go_with_the_catalogue(tmp_path):
    judgements = judged(
        ("q1", "mug", "p1", "E", "train"),
        ("q1", "mug", "gone", "E", "train"),
        ("q2", "cup", "p1", "S", "dev"),
    )
    _, counts = write_dataset(Source([batch(MUG)], [judgements], "us"), tmp_path)
    assert counts == JudgementCounts(judgements=2, on_products_left_out=1)
    assert read_queries(tmp_path / "us/queries.train.jsonl") == [Query("q1", "mug")]
    assert read_qrels(tmp_path / "us/qrels.train.txt") == {"q1": {"p1": 3}}
    assert read_qrels(tmp_path / "us/qrels.dev.txt") == {"q2": {"p1": 2}}
    assert not (tmp_path / "us/qrels.test.txt").exists()


def test_files_of_an_earlier_import_do_not_stay(tmp_path):
    train = judged(("q1", "mug", "p1", "E", "train"))
    test = judged(("q1", "mug", "p1", "E", "test"))
    write_dataset(Source([batch(MUG)], [train]), tmp_path)
    write_dataset(Source([batch(MUG)], [test]), tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["catalog.parquet", "qrels.test.txt", "queries.test.jsonl"]


def test_bad_products_leave_the_earlier_catalogue(tmp_path):
    write_dataset(Source([batch(MUG)]), tmp_path)
    before = (tmp_path / "catalog.parquet").read_bytes()
    spaced = batch(MUG, ("p 2", "Pen", PATH, None, None))
    with pytest.raises(
        InputError,
        match="products: row 2, column 'id': found id 'p 2', expected no white space",
    ):
        write_dataset(Source([spaced]), tmp_path)
    with pytest.raises(InputError) as caught:
        write_dataset(Source([batch(("p1", "Mug", [], None, None))]), tmp_path)
    assert str(caught.value) == (
        "products: found none to keep (0 products, 1 without category), expected at least one"
    )
    bad = judged(("q1", "mug", "p1", "Good", "train"))
    with pytest.raises(InputError, match="judgements: found label 'Good'"):
        write_dataset(Source([batch(("p9", "Pen", PATH, None, None))], [bad]), tmp_path)
    spaced = judged(("q 1", "mug", "p9", "E", "train"))
    with pytest.raises(InputError, match="judgements: row 1, column 'query_id': found id 'q 1'"):
        write_dataset(Source([batch(("p9", "Pen", PATH, None, None))], [spaced]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.parquet"]
    assert (tmp_path / "catalog.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("field", "value"), [("max_characters", -1), ("test_share", 1.1), ("test_share", -0.1)]
)
def test_a_wrong_choice_is_an_error(field, value):
    with pytest.raises(InputError) as caught:
        WritingConfig(**{field: value})
    assert (caught.value.where, caught.value.found) == (field, str(value))


def test_the_report_names_every_count(tmp_path):
    with console.capture() as capture:
        report(
            tmp_path,
            ProductCounts(products=1234, without_title=2, values_cut=3),
            JudgementCounts(judgements=5000, repeated=1),
        )
    assert capture.get().splitlines() == [
        f"{tmp_path}: 1,234 products, 2 without title, 3 values cut",
        "  5,000 judgements, 1 repeated",
    ]
    with console.capture() as capture:
        report(tmp_path, ProductCounts(products=1), JudgementCounts(on_products_left_out=2))
        report(tmp_path, ProductCounts(products=1), JudgementCounts())
    assert capture.get().splitlines() == [
        f"{tmp_path}: 1 products",
        "  0 judgements, 2 on products left out",
        f"{tmp_path}: 1 products",
    ]


names = st.none() | st.sampled_from(["Home", " Home ", "", " ", "A &amp; B", "携帯電話", "<p>"])


@given(st.lists(st.none() | st.lists(names, max_size=5), max_size=6), st.integers(0, 3))
def test_paths_are_cleaned_name_by_name(paths, start):
    expected = [
        [clean_text(name) for name in path or [] if name is not None and clean_text(name)]
        for path in paths
    ]
    column = pa.array([["before"]] * start + paths, pa.list_(pa.string()))
    assert clean_paths(column.slice(start)).to_pylist() == expected


def test_binary_labels_are_said(tmp_path):
    with console.capture() as capture:
        rows = [("q1", "mug", "p1", "1", "train"), ("q1", "mug", "p0", "0", "train")]
        write_dataset(Source([batch(MUG)], [judged(*rows)]), tmp_path)
    assert "all judgements have grade 1 (complement) or 0" in capture.get()
    with console.capture() as capture:
        write_dataset(Source([batch(MUG)], [judged(("q1", "mug", "p1", "E", "train"))]), tmp_path)
    assert capture.get() == ""
