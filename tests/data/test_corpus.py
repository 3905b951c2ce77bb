"""The catalogue as columns: what goes in comes out, row by row."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.data import corpus as module
from catid2_jax.data.catalog import write_catalog
from catid2_jax.data.corpus import (
    Catalog,
    CatalogFile,
    Corpus,
    QuerySet,
    read_catalog,
    write_columns,
)
from catid2_jax.errors import InputError
from catid2_jax.types import Product, Query

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
IDS = st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1, max_size=8)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PRODUCTS = st.lists(
    st.builds(
        Product,
        id=IDS,
        title=TEXT,
        text=TEXT,
        categories=st.lists(TEXT, max_size=4).map(tuple),
        extra=st.dictionaries(TEXT, JSON, max_size=3),
    ),
    max_size=8,
    unique_by=lambda product: product.id,
)


@given(PRODUCTS, st.lists(st.integers(0, 2**40), min_size=8, max_size=8, unique=True).map(sorted))
def test_file_round_trip(tmp_path_factory, products, source_rows):
    path = tmp_path_factory.mktemp("catalog") / "catalog.parquet"
    write_columns(path, zip(source_rows, products, strict=False))
    catalog = Catalog.open(path)
    assert list(catalog) == products
    assert len(catalog) == len(products)
    assert catalog.source_rows.tolist() == source_rows[: len(products)]
    assert catalog.source_rows.dtype == np.int64
    on_disk = CatalogFile(path)
    assert (len(on_disk), list(on_disk)) == (len(products), products)
    assert on_disk.source_rows.tolist() == source_rows[: len(products)]
    in_memory = Catalog.from_products(products)
    assert list(in_memory) == products
    assert in_memory.source_rows.tolist() == list(range(len(products)))
    assert in_memory.table.schema == catalog.table.schema


@given(PRODUCTS)
def test_a_row_is_one_product_in_every_column(products):
    catalog = Catalog.from_products(iter(products))
    assert catalog.ids == [product.id for product in products]
    assert catalog.titles == [product.title for product in products]
    assert catalog.paths == [product.categories for product in products]
    assert catalog.rows == {product.id: row for row, product in enumerate(products)}
    for row, product in enumerate(products):
        assert catalog[row] == catalog[row - len(products)] == catalog[np.int64(row)] == product
        assert catalog.index(product) == row
        assert product in catalog
    for row in (len(products), -len(products) - 1):
        with pytest.raises(IndexError):
            catalog[row]


@given(PRODUCTS, st.slices(8))
def test_slices_are_those_of_a_list(products, part):
    catalog = Catalog.from_products(products)
    assert catalog[part] == products[part]
    assert list(reversed(catalog)) == products[::-1]


@given(part=st.slices(10))
def test_slices_of_a_file_are_those_of_a_list(tmp_path_factory, part):
    """Whatever parts it has, and whatever part was read last."""
    path = tmp_path_factory.mktemp("catalog") / "catalog.parquet"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_ROWS_AT_ONCE", 4)
        patched.setattr(module, "_PRODUCTS_AT_ONCE", 3)
        write_columns(path, enumerate(some(10)))
        catalog = CatalogFile(path)
        assert catalog[part] == some(10)[part]
        assert list(reversed(catalog)) == some(10)[::-1]
        assert catalog[np.int64(-10)] == some(10)[0]
    for row in (10, -11):
        with pytest.raises(IndexError):
            catalog[row]


def test_a_part_of_a_file_is_read_once_where_rows_come_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 4)
    write_columns(tmp_path / "catalog.parquet", enumerate(some(10)))
    read, read_part = [], pq.ParquetFile.read_row_group

    def spy(file, part):
        read.append(part)
        return read_part(file, part)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    catalog = CatalogFile(tmp_path / "catalog.parquet")
    assert [product for start in range(0, 10, 2) for product in catalog[start : start + 2]] == (
        some(10)
    )
    assert read == [0, 1, 2]


def some(count):
    return [
        Product(f"p{n}", f"title {n}", "", ("a", f"b{n % 3}"), {"n": n} if n % 2 else {})
        for n in range(count)
    ]


def test_batches_are_of_no_consequence(tmp_path, monkeypatch):
    products = some(10)
    write_columns(tmp_path / "one", enumerate(products))
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 4)
    write_columns(tmp_path / "more", enumerate(products))
    for catalog in (
        Catalog.open(tmp_path / "more"),
        Catalog.open(tmp_path / "one"),
        Catalog.from_products(products),
    ):
        assert list(catalog) == products
        assert catalog.source_rows.tolist() == list(range(10))
        assert [catalog[row] for row in range(10)] == products
    assert pq.ParquetFile(tmp_path / "more").num_row_groups == 3


def test_the_same_products_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_columns(tmp_path / name, enumerate(some(100)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    write_columns(tmp_path / "c", enumerate(some(100), 1))
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "catalog.parquet"
    write_columns(path, enumerate(some(3)))
    before = path.read_bytes()

    def failing():
        yield 0, some(1)[0]
        raise InputError("catalog.jsonl:2", "nothing", "something")

    with pytest.raises(InputError, match=r"catalog\.jsonl:2"):
        write_columns(path, failing())
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["catalog.parquet"]


def test_a_read_catalog_has_its_rows(tmp_path):
    products = some(5)
    write_catalog(tmp_path / "catalog.jsonl", products)
    catalog = read_catalog(tmp_path / "catalog.jsonl")
    assert list(catalog) == products
    lines = (tmp_path / "catalog.jsonl").read_text().splitlines()
    (tmp_path / "catalog.jsonl").write_text("\n".join([lines[0], '{"id": "x"}', *lines[1:]]))
    with pytest.raises(InputError, match=r"catalog\.jsonl:2"):
        read_catalog(tmp_path / "catalog.jsonl")
    catalog = read_catalog(tmp_path / "catalog.jsonl", "skip", tmp_path / "rejects.jsonl")
    assert list(catalog) == products
    assert json.loads((tmp_path / "rejects.jsonl").read_text())["line"] == 2
    with pytest.raises(InputError, match=r"nowhere\.jsonl"):
        read_catalog(tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize("folder", ["seed=1", ".hidden", "_x", "a b", "é%20"])
def test_any_folder_s_name_will_do(tmp_path, folder):
    """Parquet's readers take `name=value` for a column, and leave out hidden files."""
    (tmp_path / folder).mkdir()
    path = tmp_path / folder / "catalog.parquet"
    write_columns(path, enumerate(some(3)))
    assert list(Catalog.open(path)) == some(3)


def foreign(columns):
    return lambda path: pq.write_table(pa.table(columns), path)


WHOLE = {
    "source_row": pa.array([0]),
    **{name: pa.array(["x"]) for name in ("id", "title", "text")},
    "categories": pa.array([["x"]]),
    "extra": pa.array([""]),
}


def truncated(path):
    write_columns(path, enumerate(some(50)))
    path.write_bytes(path.read_bytes()[:-9])


def overwritten(path):
    write_columns(path, enumerate(some(500)))
    content = bytearray(path.read_bytes())
    content[8:60] = bytes(52)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "Parquet"),
        (lambda path: path.write_text('{"id": "a"}'), "Parquet"),
        (truncated, "Parquet"),
        (overwritten, ""),
        (foreign({"id": ["a"], "title": ["b"]}), "the columns id, title"),
        (foreign(WHOLE | {"brand": pa.array(["x"])}), "the columns source_row, id, title, "),
        (foreign(WHOLE | {"id": pa.array([1])}), "the columns source_row, id, title, "),
        (foreign(dict(reversed(WHOLE.items()))), "the columns extra, categories, "),
    ],
)
def test_what_is_no_catalog_is_refused(tmp_path, make, found):
    path = tmp_path / "catalog.parquet"
    make(path)
    for opened in (Catalog.open, lambda path: list(CatalogFile(path))):
        with pytest.raises(InputError) as error:
            opened(path)
        assert error.value.where == str(path)
        assert found in error.value.found
        assert error.value.expected == "the catalogue that `prepare` writes"


def test_a_catalog_of_the_same_columns_is_taken(tmp_path):
    foreign(WHOLE)(tmp_path / "catalog.parquet")
    assert list(Catalog.open(tmp_path / "catalog.parquet")) == [Product("x", "x", "x", ("x",))]


@pytest.mark.parametrize(
    ("product", "where"),
    [
        (Product("p", "t", "", ("c",), {"price": float("nan")}), "product 'p'"),
        (Product("p", "t", "", ("c",), {"tags": {1, 2}}), "product 'p'"),
        (Product("p", "\ud800", "", ("c",)), "products"),
        (Product("p", "t", "", ("c",), {"brand": "\ud800"}), "product 'p'"),
        (Product(7, "t", "", ("c",)), "products"),
    ],
)
def test_products_that_no_file_holds(tmp_path, product, where):
    for make in (
        lambda: Catalog.from_products([product]),
        lambda: write_columns(tmp_path / "catalog.parquet", [(0, product)]),
    ):
        with pytest.raises(InputError) as error:
            make()
        assert error.value.where == where
    assert os.listdir(tmp_path) == []


def test_corpus():
    catalog = Catalog.from_products(some(4))
    embeddings = np.ones((4, 2), np.float16)
    corpus = Corpus(catalog, embeddings)
    assert corpus.embeddings is embeddings
    assert corpus.catalog is catalog
    assert len(corpus) == len(Corpus(catalog)) == 4
    with pytest.raises(InputError) as error:
        _ = Corpus(catalog).embeddings
    assert (error.value.where, error.value.found) == ("embeddings", "none")


@pytest.mark.parametrize(
    ("embeddings", "found"),
    [
        (np.ones((3, 2), np.float32), "float32 (3, 2)"),
        (np.ones((5, 2), np.float32), "float32 (5, 2)"),
        (np.ones(4), "float64 (4,)"),
        (np.ones((4, 2, 1)), "float64 (4, 2, 1)"),
        (np.ones((4, 2), int), "int64 (4, 2)"),
        (np.full((4, 2), "a"), "<U1 (4, 2)"),
    ],
)
def test_embeddings_that_do_not_fit(embeddings, found):
    with pytest.raises(InputError) as error:
        Corpus(Catalog.from_products(some(4)), embeddings)
    assert (error.value.where, error.value.found) == ("embeddings", found)
    assert error.value.expected == "floats [4, width], a row per product"


def test_query_set():
    queries = [Query("q1", "tea"), Query("q0", "a lamp")]
    found = QuerySet(queries, {"q0": {"p": 3}})
    assert (found.ids, found.texts, found.vectors) == (["q1", "q0"], ["tea", "a lamp"], None)
