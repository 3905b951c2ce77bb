import dataclasses
import datetime
import decimal
import gzip
import json
import math
import os
import re
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.data.catalog import product_text, stream_products, write_catalog
from catid2_jax.errors import InputError
from catid2_jax.types import Product

MUG = {"id": "p1", "title": "Mug", "text": "Blue.", "categories": ["Home", "Kitchen", "Cups"]}
PEN = {"id": "p2", "title": "Pen", "text": "Red.", "categories": ["Office", "Writing", "Pens"]}
MUG_PRODUCT = Product("p1", "Mug", "Blue.", ("Home", "Kitchen", "Cups"))
PEN_PRODUCT = Product("p2", "Pen", "Red.", ("Office", "Writing", "Pens"))

texts = st.text(max_size=12)
names = texts.map(str.strip).filter(bool)
ids = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
extras = st.dictionaries(
    texts.filter(lambda key: key not in ("id", "title", "text", "categories")),
    json_values,
    max_size=2,
)
products = st.builds(
    Product,
    id=ids,
    title=texts.filter(str.strip),
    text=texts,
    categories=st.lists(names, min_size=1, max_size=4).map(tuple),
    extra=extras,
)
catalogs = st.lists(products, min_size=1, max_size=5, unique_by=lambda product: product.id)


def write_records(path, *records):
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
    data = b"".join(line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_parquet(path, *records):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(records)), path)
    return path


def error_of(path, **options):
    with pytest.raises(InputError) as caught:
        list(stream_products(path, **options))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".json.gz"])
def test_json_lines_are_read_in_order(tmp_path, suffix):
    path = write_records(tmp_path / f"catalog{suffix}", MUG, b"", PEN)
    assert list(stream_products(path)) == [MUG_PRODUCT, PEN_PRODUCT]


def test_parquet_is_read_in_order_across_batches(tmp_path):
    records = [{**MUG, "id": f"p{n}", "price": n / 2} for n in range(5000)]
    path = write_parquet(tmp_path / "catalog.parquet", *records)
    read = list(stream_products(path))
    assert [product.id for product in read] == [f"p{n}" for n in range(5000)]
    assert read[4999] == Product("p4999", "Mug", "Blue.", MUG_PRODUCT.categories, {"price": 2499.5})


def test_fields_are_brought_to_their_form(tmp_path):
    record = {"id": 7, "title": "Mug", "text": None, "categories": [" Home ", "Cups\n"], "brand": 3}
    without_text = {"id": "8", "title": "Mug", "categories": ["Home"]}
    path = write_records(tmp_path / "catalog.jsonl", record, without_text)
    assert list(stream_products(path)) == [
        Product("7", "Mug", "", ("Home", "Cups"), {"brand": 3}),
        Product("8", "Mug", "", ("Home",)),
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_no_error(tmp_path):
    path = tmp_path / "catalog.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(MUG).encode() + b"\r\n")
    assert list(stream_products(path)) == [MUG_PRODUCT]


def test_each_iteration_starts_anew(tmp_path):
    reader = stream_products(write_records(tmp_path / "c.jsonl", MUG, b"{", PEN), on_error="skip")
    assert list(reader) == list(reader) == [MUG_PRODUCT, PEN_PRODUCT]
    assert reader.rejected == 1


BAD_RECORDS = {
    "not an object": (b"[1]", "found [1], expected a JSON object"),
    "not JSON": (b'{"id": ', "found invalid JSON (Expecting value at column"),
    "NaN": (
        b'{"id": NaN, "title": "Mug", "categories": ["A"]}',
        "found id nan, expected text without white space",
    ),
    "too deep": (b"[" * 100_000, "found invalid JSON ("),
    "too long a number": (b'{"id": ' + b"1" * 5000 + b"}", "found invalid JSON ("),
    "not UTF-8": (b'{"id": "\xff"}', r"found the byte b'\xff' at column 9, expected UTF-8"),
    "lone surrogate": (b'{"id": "\\ud800"}', "found a lone surrogate, expected valid Unicode"),
    "no id": ({"title": "Mug"}, "found the fields 'title', expected also 'id'"),
    "no title": ({"id": "x", "categories": ["A"]}, "expected also 'title'"),
    "no categories": ({"id": "x", "title": "Mug"}, "expected also 'categories'"),
    "empty id": (MUG | {"id": ""}, "found id '', expected text without white space"),
    "id with space": (MUG | {"id": "a b"}, "found id 'a b', expected text without white space"),
    "id with no-break space": (MUG | {"id": "a\xa0"}, "expected text without white space"),
    "null id": (MUG | {"id": None}, "found id None, expected text"),
    "boolean id": (MUG | {"id": True}, "found id True, expected text"),
    "fractional id": (MUG | {"id": 1.5}, "found id 1.5, expected text"),
    "blank title": (MUG | {"title": " \t"}, r"found title ' \t', expected text that is not blank"),
    "title no text": (MUG | {"title": 3}, "found title 3, which is a number, expected text"),
    "text no text": (MUG | {"text": ["a"]}, "found text ['a'], expected text or null"),
    "no category": (MUG | {"categories": []}, "found categories [], expected a list of names"),
    "one category": (MUG | {"categories": "A"}, "found categories 'A', expected a list of names"),
    "blank category": (MUG | {"categories": ["A", " "]}, "found category ' ', expected text"),
    "numeric category": (
        MUG | {"categories": [3]},
        "found category 3, which is a number, expected text",
    ),
    "duplicate": (PEN, "found id 'p2' again, expected unique ids (first at"),
}


@pytest.mark.parametrize(("record", "expected"), BAD_RECORDS.values(), ids=BAD_RECORDS.keys())
def test_a_bad_record_is_named_with_its_line(tmp_path, record, expected):
    path = write_records(tmp_path / "catalog.jsonl", PEN, b"", record)
    message = error_of(path)
    assert message.startswith(f"{path}:3: ")
    assert expected in message
    if record is PEN:
        assert message.endswith(f"(first at {path}:1)")


def test_a_long_value_is_cut_in_the_message(tmp_path):
    path = write_records(tmp_path / "catalog.jsonl", MUG | {"title": ["x" * 10_000]})
    assert len(error_of(path)) < len(str(path)) + 150


def test_parquet_errors_name_the_row(tmp_path):
    path = write_parquet(tmp_path / "catalog.parquet", MUG, PEN | {"title": " "})
    assert error_of(path).startswith(f"{path}: row 2: found title ' ', expected text")
    path = write_parquet(tmp_path / "twice.parquet", MUG, PEN, MUG)
    message = error_of(path)
    assert message.startswith(f"{path}: row 3: found id 'p1' again")
    assert message.endswith(f"(first at {path}: row 1)")


def test_a_parquet_without_a_column_names_those_it_has(tmp_path):
    path = write_parquet(tmp_path / "catalog.parquet", {"id": "a", "name": "Mug"})
    assert error_of(path) == f"{path}: found the fields 'id, name', expected also 'title'"


def test_unreadable_files(tmp_path):
    missing = "found no such file, expected a file to read"
    assert error_of(tmp_path / "none.jsonl") == f"{tmp_path / 'none.jsonl'}: {missing}"
    assert error_of(tmp_path / "none.parquet") == f"{tmp_path / 'none.parquet'}: {missing}"
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and no more")
    assert error_of(broken).startswith(f"{broken}: found ")
    assert error_of(broken).endswith("expected a readable Parquet")
    folder = tmp_path / "folder.jsonl"
    folder.mkdir()
    assert error_of(folder) == f"{folder}: found Is a directory, expected a file to read"


def test_a_parquet_damaged_in_the_middle(tmp_path):
    path = write_parquet(tmp_path / "catalog.parquet", *(MUG | {"id": f"p{n}"} for n in range(99)))
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)  # the first column's pages; the footer stays
    path.write_bytes(data)
    assert error_of(path).endswith("expected a readable Parquet")


def test_damaged_gzip(tmp_path):
    path = write_records(tmp_path / "catalog.jsonl.gz", *(MUG | {"id": n} for n in range(1000)))
    whole = path.read_bytes()
    damaged = {"truncated": whole[:-20], "plain": b"{}\n", "changed": whole[:99] + b"?" * 99}
    for data in damaged.values():
        path.write_bytes(data)
        for on_error in ("raise", "skip"):
            message = error_of(path, on_error=on_error)
            assert message.startswith(f"{path}: found a damaged gzip (")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_line_without_end_is_refused_where_it_grows_too_long(tmp_path, monkeypatch, suffix):
    """A gzip bomb, say: no more of it is read."""
    long = MUG | {"id": 2, "text": "x" * 5_000_000}
    path = write_records(tmp_path / f"catalog{suffix}", MUG, long)
    monkeypatch.setattr("catid2_jax.data.lines.LONGEST_LINE", 1 << 20)
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        list(stream_products(path))
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()
    assert caught.value.where == f"{path}:2"
    assert caught.value.found == "a line of more than 1 MiB"


@pytest.mark.parametrize("name", ["catalog.jsonl", "catalog.jsonl.gz", "catalog.parquet"])
def test_a_file_that_changes_while_it_is_read(tmp_path, name):
    path = tmp_path / name
    rows = [MUG | {"id": str(n)} for n in range(9000)]
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        write_records(path, *rows)
    for change in (
        lambda: os.utime(path, ns=(0, 0)),
        lambda: path.write_bytes(path.read_bytes() + b" "),
    ):
        products = iter(stream_products(path))
        next(products)
        change()
        with pytest.raises(InputError) as caught:
            list(products)
        assert str(caught.value) == (
            f"{path}: found that it changed while it was read, expected a finished file"
        )


@pytest.mark.parametrize("name", ["catalog.csv", "catalog", "catalog.parquet.gz"])
def test_another_suffix_is_refused_at_once(tmp_path, name):
    with pytest.raises(InputError, match=r"expected one of \.jsonl, .*\.parquet"):
        stream_products(tmp_path / name)


def test_another_on_error_is_refused(tmp_path):
    with pytest.raises(InputError, match="on_error: found 'ignore', expected 'raise' or 'skip'"):
        stream_products(tmp_path / "catalog.jsonl", on_error="ignore")


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_catalogue_is_refused(tmp_path, content):
    path = tmp_path / "catalog.jsonl"
    path.write_bytes(content)
    assert error_of(path).startswith(f"{path}: found no product (0 records rejected)")


def test_an_empty_parquet_is_refused(tmp_path):
    path = tmp_path / "catalog.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([MUG]).slice(0, 0), path)
    assert error_of(path).startswith(f"{path}: found no product")


def test_skipped_records_are_counted_and_written_down(tmp_path):
    bad = [record for record, _ in BAD_RECORDS.values()]
    path = write_records(tmp_path / "catalog.jsonl", PEN, *bad, MUG)
    rejects = tmp_path / "rejects.jsonl"
    reader = stream_products(path, on_error="skip", rejects=rejects)
    assert list(reader) == [PEN_PRODUCT, MUG_PRODUCT]
    assert reader.rejected == len(bad)
    lines = [json.loads(line) for line in rejects.read_text("utf-8").splitlines()]
    assert [line["line"] for line in lines] == list(range(2, 2 + len(bad)))
    for line, (record, expected) in zip(lines, BAD_RECORDS.values(), strict=True):
        assert expected in line["error"]
        raw = record if isinstance(record, bytes) else json.dumps(record).encode()
        assert line["record"] == raw.decode("utf-8", errors="backslashreplace")


def test_rejects_of_parquet_hold_the_row(tmp_path):
    path = write_parquet(tmp_path / "catalog.parquet", MUG | {"title": ""}, PEN)
    rejects = tmp_path / "rejects.jsonl"
    assert list(stream_products(path, "skip", rejects)) == [PEN_PRODUCT]
    line = json.loads(rejects.read_text("utf-8"))
    assert line["line"] == 1
    assert json.loads(line["record"]) == MUG | {"title": ""}


def test_rejects_appear_only_when_all_is_read(tmp_path):
    path = write_records(tmp_path / "catalog.jsonl", b"{", MUG, PEN)
    rejects = tmp_path / "rejects.jsonl"
    products = iter(stream_products(path, "skip", rejects))
    next(products)
    products.close()
    assert list(tmp_path.iterdir()) == [path]
    list(stream_products(path, "skip", rejects))
    assert sorted(tmp_path.iterdir()) == [path, rejects]


def test_rejects_are_not_written_without_skip(tmp_path):
    path = write_records(tmp_path / "catalog.jsonl", MUG)
    assert list(stream_products(path, "raise", tmp_path / "rejects.jsonl")) == [MUG_PRODUCT]
    assert list(tmp_path.iterdir()) == [path]


def test_rejects_explain_a_catalogue_without_a_good_record(tmp_path):
    path = write_records(tmp_path / "catalog.jsonl", b"{", b"3")
    rejects = tmp_path / "rejects.jsonl"
    message = error_of(path, on_error="skip", rejects=rejects)
    assert "found no product (2 records rejected)" in message
    assert len(rejects.read_text("utf-8").splitlines()) == 2


@settings(deadline=None, max_examples=40)
@given(catalog=catalogs, suffix=st.sampled_from([".jsonl", ".jsonl.gz"]))
def test_what_is_written_is_read_again(tmp_path_factory, catalog, suffix):
    path = tmp_path_factory.mktemp("catalog") / f"catalog{suffix}"
    write_catalog(path, iter(catalog))
    assert list(stream_products(path)) == catalog


@settings(deadline=None, max_examples=80)
@given(
    good=st.integers(0, 3),
    bad=st.binary(min_size=1).filter(lambda line: b"\n" not in line and line.strip())
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {"id": json_values, "title": json_values, "categories": json_values, "text": json_values}
    )
    .filter(lambda record: not isinstance(record["categories"], list))
    .map(lambda record: json.dumps(record).encode()),
)
def test_any_bad_line_is_an_input_error_with_its_number(tmp_path_factory, good, bad):
    records = [MUG | {"id": f"good{n}"} for n in range(good)]
    path = write_records(tmp_path_factory.mktemp("bad") / "catalog.jsonl", *records, bad, PEN)
    assert error_of(path).startswith(f"{path}:{good + 1}: found ")


def test_a_compressed_catalogue_holds_no_time_and_no_name(tmp_path):
    path = tmp_path / "catalog.jsonl.gz"
    write_catalog(path, [MUG_PRODUCT])
    data = path.read_bytes()
    assert data[3:8] == bytes(5)  # RFC 1952: flags (8 would be a file name), then MTIME
    assert json.loads(gzip.decompress(data)) == MUG


def test_a_failed_write_leaves_the_old_catalogue(tmp_path):
    path = write_records(tmp_path / "catalog.jsonl", MUG)
    bad = Product("p2", "Pen", "", ("Office",), {"price": float("nan")})
    with pytest.raises(InputError, match=r"product 'p2': found Out of range .*expected values"):
        write_catalog(path, [MUG_PRODUCT, bad])
    with pytest.raises(InputError, match=r"product 'p2': found .*bytes is not JSON serializable"):
        write_catalog(path, [Product("p2", "Pen", "", ("Office",), {"image": b""})])
    assert list(stream_products(path)) == [MUG_PRODUCT]
    assert list(tmp_path.iterdir()) == [path]


def test_a_catalogue_is_not_written_as_parquet(tmp_path):
    with pytest.raises(InputError, match=re.escape("expected one of .jsonl, .jsonl.gz")):
        write_catalog(tmp_path / "catalog.parquet", [MUG_PRODUCT])


@pytest.mark.parametrize(
    ("product", "with_categories", "expected"),
    [
        (MUG_PRODUCT, False, "Mug. Blue."),
        (MUG_PRODUCT, True, "Mug. Blue.. Home > Kitchen > Cups"),
        (Product("p", " Mug ", " ", ("Home",)), False, "Mug"),
        (Product("p", "Mug", "", ("Home", "Cups")), True, "Mug. Home > Cups"),
    ],
)
def test_product_text(product, with_categories, expected):
    assert product_text(product, with_categories) == expected


def test_further_fields_veto_nothing(tmp_path):
    far = pyarrow.array([10**7] * 3, pyarrow.int32()).cast(pyarrow.date32())  # beyond year 9999
    columns = {
        "id": ["a", "b", "c"],
        "title": pyarrow.array([b"Mug", b"Pen", b"Cup"]),
        "categories": [["A"]] * 3,
        "added": [datetime.date(2024, 2, 29)] * 3,
        "at": pyarrow.array([1, 2, None], pyarrow.timestamp("ns")),
        "price": [decimal.Decimal("4.50")] * 3,
        "stars": [math.nan, 4.5, math.inf],
        "image": [b"\xff\xd8", b"text", None],
        "box": [{"w": math.nan, "on": datetime.date(2024, 1, 1)}] * 3,
        "tags": pyarrow.array(
            [[("k", b"v")]] * 3, pyarrow.map_(pyarrow.string(), pyarrow.binary())
        ),
        "far": pyarrow.ListArray.from_arrays([0, 1, 2, 3], far),
    }
    path = tmp_path / "catalog.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    reader = stream_products(path)
    first, second, third = reader
    assert (first.title, third.id) == ("Mug", "c")
    assert first.extra == {
        "added": "2024-02-29",
        "at": "1970-01-01 00:00:00.000000001",
        "price": "4.50",
        "stars": None,
        "image": None,
        "box": {"w": None, "on": "2024-01-01"},
        "tags": [["k", "v"]],
        "far": None,
    }
    assert (second.extra["image"], second.extra["stars"], third.extra["stars"]) == (
        "text",
        4.5,
        None,
    )
    assert reader.values_left_out == {"image": 1, "stars": 1, "far": 3}
    lines = write_records(tmp_path / "catalog.jsonl", MUG | {"price": math.nan})
    assert next(iter(stream_products(lines))).extra == {"price": None}


def test_a_parquet_with_a_name_twice_is_refused(tmp_path):
    path = tmp_path / "catalog.parquet"
    table = pyarrow.table([["a"], ["Mug"], [["A"]], ["b"]], ["id", "title", "categories", "id"])
    pyarrow.parquet.write_table(table, path)
    assert error_of(path) == f"{path}: found several columns named 'id', expected one of each name"


names = st.text(max_size=3)


@given(
    products=st.lists(
        st.builds(Product, names, names, names, st.lists(names, max_size=2).map(tuple)),
        max_size=3,
        unique_by=lambda product: product.id,
    )
)
def test_what_is_written_is_read_again_or_refused(tmp_path_factory, products):
    path = tmp_path_factory.mktemp("catalog") / "catalog.jsonl"
    try:
        write_catalog(path, products)
    except InputError:
        assert not path.exists()
        assert not products or any(
            not product.categories
            or not all(map(str.strip, (product.title, *product.categories)))
            or product.id.split() != [product.id]
            or "\ufeff" in product.id
            for product in products
        )
        return
    for read, product in zip(stream_products(path), products, strict=True):
        path_names = tuple(name.strip() for name in product.categories)
        assert read == dataclasses.replace(product, categories=path_names)
