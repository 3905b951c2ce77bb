"""Columns of any type become text, ids and paths, or one line names the column and its type."""

import datetime
import decimal
import math
import uuid

import pyarrow as pa
import pytest

from catid2_jax.data.sources.conversion import as_category_cells, as_ids, as_text
from catid2_jax.errors import InputError

UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["a", None]), ["a", None]),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.array(["a", "a"]).dictionary_encode(), ["a", "a"]),
        (pa.array([b"Caf\xc3\xa9", None], pa.large_binary()), ["Café", None]),
        (pa.array([b"ab"], pa.binary(2)), ["ab"]),
        (pa.array([4.5, math.nan, None]), ["4.5", None, None]),
        (pa.array([decimal.Decimal("4.50")]), ["4.50"]),
        (pa.array([True]), ["true"]),
        (pa.array([datetime.date(2024, 2, 29)]), ["2024-02-29"]),
        (pa.array([["a", None, "b"], None, []]), ["a b", None, ""]),
        (pa.array([[b"a"], [b"b"]], pa.list_(pa.binary())), ["a", "b"]),
        (pa.array([["a", "b"], ["c", "d"]], pa.list_(pa.string(), 2)), ["a b", "c d"]),
        (pa.array([["x"], ["a", "b"]]).slice(1), ["a b"]),
        (pa.nulls(2), [None, None]),
    ],
    ids=lambda x: str(getattr(x, "type", "")),
)
def test_text(column, expected):
    assert as_text(column, "title", "shop").to_pylist() == expected


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["007", " 7 ", '="07"', "", None]), ["007", "7", "07", None, None]),
        (pa.array([b"007", b" 7"]), ["007", "7"]),
        (pa.array([7, None]), ["7", None]),
        (pa.array([4006381333931.0, math.nan, None]), ["4006381333931", None, None]),
        (pa.array([7.0], pa.float32()), ["7"]),
        (pa.array([decimal.Decimal("7.00")]), ["7"]),
        (pa.array([UUID.bytes], pa.uuid()), [str(UUID)]),
    ],
    ids=lambda x: str(getattr(x, "type", "")),
)
def test_ids(column, expected):
    assert as_ids(column, "sku", "shop").to_pylist() == expected


@pytest.mark.parametrize(
    "column",
    [
        pa.array([7.0, 90.75]),
        pa.array([1.0, 2.0**24 + 2], pa.float32()),
        pa.array([decimal.Decimal("7.00"), decimal.Decimal("7.50")]),
        pa.array(["a", "4.00638E+12"]),
        pa.array(["a", "a b"]),
        pa.array([b"a", b"\xe9"]),
    ],
    ids=lambda column: str(column.type),
)
def test_a_value_that_is_no_id_is_refused_with_its_row(column):
    with pytest.raises(InputError) as caught:
        as_ids(column, "sku", "shop.parquet", 16385)
    assert caught.value.where == "shop.parquet: row 16386, column 'sku'"


@pytest.mark.parametrize(
    "column",
    [
        pa.array([{"a": 1}]),
        pa.array([[["a"]]]),
        pa.array([[{"a": 1}]]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.array([True]),
        pa.array([datetime.date(2024, 2, 29)]),
    ],
    ids=lambda column: str(column.type),
)
def test_other_types_are_refused_with_column_and_type(column):
    scalar = pa.types.is_boolean(column.type) or pa.types.is_temporal(column.type)
    for convert in (as_ids,) if scalar else (as_ids, as_text, as_category_cells):
        with pytest.raises(InputError) as caught:
            convert(column, "specs", "shop.parquet")
        assert caught.value.where == "shop.parquet"
        assert caught.value.found == f"column 'specs' of type {column.type}"


NAMES = [["Home", "Cups"], None, []]
CELLS = [["Home", "Cups"], [], []]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["Home > Cups", None]), ["Home > Cups", None]),
        (pa.array(["Home"]).dictionary_encode(), ["Home"]),
        (pa.array([math.nan, None], pa.float64()), [None, None]),
        (pa.array(NAMES), CELLS),
        (pa.array(NAMES, pa.large_list(pa.large_string())), CELLS),
        (pa.array([[1, 2]]), [["1", "2"]]),
        (pa.array([[{"id": "c1", "name": "Home"}, {"id": "c2", "name": "Cups"}], None]), CELLS[:2]),
    ],
    ids=lambda x: str(getattr(x, "type", "")),
)
def test_category_cells(column, expected):
    assert as_category_cells(column, "path", "shop").to_pylist() == expected
