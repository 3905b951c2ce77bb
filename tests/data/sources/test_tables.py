"""CSV, Parquet, SQL and Hugging Face are read from columns of any name."""

import builtins
import csv
import dataclasses
import json
import sqlite3

import pyarrow as pa
import pyarrow.parquet
import pytest

from catid2_jax.data.catalog import stream_products
from catid2_jax.data.queries import read_qrels
from catid2_jax.data.sources.columns import ColumnMap
from catid2_jax.data.sources.dataset import write_dataset
from catid2_jax.data.sources.delimited import CsvConfig, read_csv
from catid2_jax.data.sources.huggingface import HuggingFaceConfig, read_huggingface
from catid2_jax.data.sources.parquet import ParquetConfig, read_parquet
from catid2_jax.data.sources.sql import SqlConfig, read_sql
from catid2_jax.errors import InputError
from catid2_jax.progress import console
from catid2_jax.types import Product

HEADER = ("sku", "name", "path", "brand", "price")
ROWS = [
    ("007", "Mug &amp; lid", "Home > Kitchen & Dining > Cups", "Acme", "3.50"),
    ("p2", 'Pen, "blue"', "Office>Pens", None, "1"),
    ("p3", "スマホ ケース 🎁", " 携帯電話 >ケース", "É", None),
    ("p4", "No path", None, "Acme", "2"),
]
PRODUCTS = [
    Product("007", "Mug & lid", "brand: Acme; price: 3.50", ("Home", "Kitchen & Dining", "Cups")),
    Product("p2", 'Pen, "blue"', "price: 1", ("Office", "Pens")),
    Product("p3", "スマホ ケース 🎁", "brand: É", ("携帯電話", "ケース")),
]
COLUMNS = {"id": "sku", "title": "name", "categories": ("path",), "text": ("brand", "price")}


def imported(sources, directory):
    for source in sources:
        write_dataset(source, directory)
    return list(stream_products(directory / "catalog.parquet"))


def error_of(read, config):
    with pytest.raises(InputError) as caught:
        [list(source.products) for source in read(config)]
    message = str(caught.value)
    assert "\n" not in message
    return message


def write_csv(path, delimiter=",", encoding="utf-8", rows=ROWS):
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([HEADER, *rows])
    return str(path)


def records(rows=ROWS):
    return [dict(zip(HEADER, row, strict=True)) for row in rows]


@pytest.mark.parametrize(("delimiter", "told"), [(",", ","), ("\t", "tab"), ("|", "|")])
def test_csv_with_a_column_map(tmp_path, delimiter, told):
    path = write_csv(tmp_path / "shop.csv", delimiter)
    config = CsvConfig(path=path, delimiter=told, **COLUMNS)
    assert imported(read_csv(config), tmp_path) == PRODUCTS


def test_csv_with_judgements(tmp_path):
    path = write_csv(tmp_path / "shop.csv")
    judgements = tmp_path / "judged.tsv"
    judgements.write_text(
        "query_id\tquery\tproduct_id\tlabel\tsplit\nq1\tmug\t007\tE\ttrain\nq2\tpen\tp2\t2\ttest\n"
    )
    imported(read_csv(CsvConfig(path=path, judgements=str(judgements), **COLUMNS)), tmp_path)
    assert read_qrels(tmp_path / "qrels.train.txt") == {"q1": {"007": 3}}
    assert read_qrels(tmp_path / "qrels.test.txt") == {"q2": {"p2": 2}}


def test_csv_in_latin_1_with_a_column_per_level_and_another_separator(tmp_path):
    rows = [("1", "Thé", "Épicerie", "Boissons", "x"), ("2", "Café", "Épicerie", "", "Bar / Pub")]
    path = write_csv(tmp_path / "shop.csv", ";", "latin-1", rows)
    columns = {"id": "sku", "title": "name", "delimiter": ";", "encoding": "latin-1"}
    levels = CsvConfig(path=path, categories=("path", "brand", "price"), **columns)
    assert [product.categories for product in imported(read_csv(levels), tmp_path)] == [
        ("Épicerie", "Boissons", "x"),
        ("Épicerie", "Bar / Pub"),
    ]
    one = CsvConfig(path=path, categories=("price",), separator="/", **columns)
    assert [product.categories for product in imported(read_csv(one), tmp_path)] == [
        ("x",),
        ("Bar", "Pub"),
    ]


def test_a_file_that_changes_while_it_is_read_leaves_the_earlier_import(tmp_path):
    path = write_csv(tmp_path / "shop.csv")
    config = CsvConfig(path=path, **COLUMNS | {"categories": ("path", "brand")})  # read as streamed
    out = tmp_path / "out"
    (source,) = read_csv(config)
    write_dataset(source, out)
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def growing(batches):
        for batch in batches:
            yield batch
            with open(path, "a") as file:
                file.write("p9,Late,Home,,\n")

    (source,) = read_csv(config)
    with pytest.raises(InputError) as caught:
        write_dataset(dataclasses.replace(source, products=growing(source.products)), out)
    assert str(caught.value) == (
        f"{path}: found that it changed while it was read, expected a finished file"
    )
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_another_separator_than_told_is_said(tmp_path):
    path = write_csv(tmp_path / "shop.csv", "\t")
    header = "\\t".join(HEADER)
    assert error_of(read_csv, CsvConfig(path=path, **COLUMNS)) == (
        f"{path}: found the header '{header}', separated by a tab, expected a comma, "
        "or delimiter='tab'"
    )


def test_parquet_shards_are_read_by_name(tmp_path):
    folder = tmp_path / "shards"
    (folder / "later").mkdir(parents=True)
    for name, part in (("1.parquet", ROWS[:1]), ("2.parquet", ROWS[1:2])):
        pa.parquet.write_table(pa.Table.from_pylist(records(part)), folder / name)
    levels = [record | {"path": record["path"].split(">")} for record in records(ROWS[2:3])]
    pa.parquet.write_table(pa.Table.from_pylist(levels), folder / "later/3.parquet")
    config = ParquetConfig(path=str(folder), **COLUMNS)
    assert imported(read_parquet(config), tmp_path) == PRODUCTS
    one = ParquetConfig(path=str(folder / "later/3.parquet"), **COLUMNS)
    assert imported(read_parquet(one), tmp_path) == PRODUCTS[2:]


def test_parquet_with_a_column_per_level(tmp_path):
    rows = [
        {"id": 1, "title": "a", "l1": "Home", "l2": "Cups"},
        {"id": 2, "title": "b", "l1": "Home", "l2": None},
        {"id": 3, "title": "c", "l1": None, "l2": None},
    ]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    config = ParquetConfig(path=str(tmp_path / "items.parquet"), categories=("l1", "l2"))
    assert imported(read_parquet(config), tmp_path) == [
        Product("1", "a", "", ("Home", "Cups")),
        Product("2", "b", "", ("Home",)),
    ]


def test_parquet_of_other_string_and_list_types(tmp_path):
    columns = {
        "id": pa.array(["1", "2"], pa.large_string()),
        "title": pa.array(["a", "b"]).dictionary_encode(),
        "categories": pa.array([["Home", "Cups"], None], pa.large_list(pa.large_string())),
        "path": pa.array(["X > Y", "Z"]).dictionary_encode(),
        "notes": pa.array(["n", None], pa.large_string()),
        "stars": pa.array([4.5, None]),
    }
    pa.parquet.write_table(pa.table(columns), tmp_path / "items.parquet")
    config = ParquetConfig(path=str(tmp_path / "items.parquet"), text=("notes", "stars"))
    assert imported(read_parquet(config), tmp_path) == [
        Product("1", "a", "notes: n; stars: 4.5", ("Home", "Cups"))
    ]
    path = ParquetConfig(path=config.path, categories=("path",))
    assert imported(read_parquet(path), tmp_path) == [
        Product("1", "a", "", ("X", "Y")),
        Product("2", "b", "", ("Z",)),
    ]


def test_a_shard_without_a_column_is_named(tmp_path):
    pa.parquet.write_table(pa.Table.from_pylist(records()), tmp_path / "1.parquet")
    table = pa.Table.from_pylist(records()).drop_columns(["brand"])
    pa.parquet.write_table(table, tmp_path / "2.parquet")
    assert error_of(read_parquet, ParquetConfig(path=str(tmp_path), **COLUMNS)) == (
        f"{tmp_path / '2.parquet'}: found the columns sku, name, path, price, expected also 'brand'"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found no file"):
        read_parquet(ParquetConfig(path=str(tmp_path / "empty")))


def sqlite(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE shop (sku, name TEXT, path TEXT, brand TEXT, price REAL)")
        rows = [(7 if row[0] == "007" else row[0], *row[1:]) for row in ROWS]
        connection.executemany("INSERT INTO shop VALUES (?, ?, ?, ?, ?)", rows)
    connection.close()
    return str(path)


def test_sql_over_files(tmp_path):
    pytest.importorskip("duckdb")
    path = write_csv(tmp_path / "shop.csv")
    pa.parquet.write_table(pa.table({"key": ["p3"]}), tmp_path / "sold.parquet")
    query = (
        f"SELECT sku, name, string_split(path, '>') AS levels FROM read_csv('{path}', "
        f"all_varchar = true) WHERE sku NOT IN (SELECT key FROM '{tmp_path}/sold.parquet')"
    )
    config = SqlConfig(query=query, id="sku", title="name", categories=("levels",))
    assert [
        (product.id, product.categories) for product in imported(read_sql(config), tmp_path)
    ] == [
        ("007", PRODUCTS[0].categories),
        ("p2", PRODUCTS[1].categories),
    ]


def test_sql_in_a_duckdb_database(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE shop AS SELECT 1 AS id, 'Mug' AS title, ['A'] AS categories"
        )
    config = SqlConfig(query="FROM shop", database=str(tmp_path / "shop.duckdb"))
    assert imported(read_sql(config), tmp_path) == [Product("1", "Mug", "", ("A",))]
    writing = SqlConfig(query="DROP TABLE shop", database=config.database)
    assert "read-only" in error_of(read_sql, writing)
    nothing = SqlConfig(query="CREATE TABLE shop (id INT)")
    assert error_of(read_sql, nothing) == (
        "the query's result: found the columns none, expected also 'id', 'title', 'categories'"
    )
    missing = SqlConfig(query="FROM shop", database=str(tmp_path / "no.duckdb"))
    assert error_of(read_sql, missing).startswith("query: found IO Error")


def test_sql_in_an_sqlite_database(tmp_path):
    database = sqlite(tmp_path / "shop.sqlite")
    query = "SELECT * FROM shop ORDER BY rowid"
    config = SqlConfig(query=query, database=database, **COLUMNS)
    first, *others = PRODUCTS
    assert imported(read_sql(config), tmp_path) == [
        Product("7", first.title, "brand: Acme; price: 3.5", first.categories),
        Product("p2", others[0].title, "price: 1.0", others[0].categories),
        others[1],
    ]
    writing = SqlConfig(query="DELETE FROM shop", database=database)
    assert "readonly" in error_of(read_sql, writing)
    missing = str(tmp_path / "no.sqlite")
    assert error_of(read_sql, SqlConfig(query="SELECT 1", database=missing)) == (
        f"{missing}: found no such file, expected a file to read"
    )


@pytest.mark.parametrize("database", ["", "shop.sqlite"])
def test_a_query_that_fails_or_lacks_a_column(tmp_path, database):
    pytest.importorskip("duckdb")
    database = database and sqlite(tmp_path / database)
    assert error_of(read_sql, SqlConfig(query="SELECT FROM", database=database)).startswith(
        "query: found "
    )
    lacking = SqlConfig(query="SELECT 1 AS id, 2 AS name", database=database)
    assert error_of(read_sql, lacking) == (
        "the query's result: found the columns id, name, expected also 'title', 'categories'"
    )


def test_hugging_face_data_saved_by_its_library(tmp_path):
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_list(records())
    dataset.save_to_disk(tmp_path / "plain")
    plain = HuggingFaceConfig(dataset=str(tmp_path / "plain"), **COLUMNS)
    assert imported(read_huggingface(plain), tmp_path) == PRODUCTS
    splits = datasets.DatasetDict({"train": dataset.select([1]), "test": dataset.select([2])})
    splits.save_to_disk(tmp_path / "splits")
    for split, expected in (("train", PRODUCTS[1:2]), ("test", PRODUCTS[2:])):
        config = HuggingFaceConfig(dataset=str(tmp_path / "splits"), split=split, **COLUMNS)
        assert imported(read_huggingface(config), tmp_path) == expected
    wrong = HuggingFaceConfig(dataset=str(tmp_path / "splits"), split="dev", **COLUMNS)
    assert "expected a data set with split 'dev'" in error_of(read_huggingface, wrong)
    lacking = HuggingFaceConfig(dataset=str(tmp_path / "plain"), id="ean")
    assert error_of(read_huggingface, lacking) == (
        f"{lacking.dataset}: found the columns {', '.join(HEADER)}, "
        "expected also 'ean', 'title', 'categories'"
    )


def test_hugging_face_data_by_name_is_streamed(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    called = []

    def load_dataset(*names, **options):
        called.append((names, options))
        lists = [row | {"path": (row["path"] or "").split(">")} for row in records()]
        return datasets.Dataset.from_list(lists).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = HuggingFaceConfig(dataset="shop/items", subset="en", split="test", **COLUMNS)
    assert imported(read_huggingface(config), tmp_path) == PRODUCTS
    assert called == [(("shop/items", "en"), {"split": "test", "streaming": True})]


@pytest.mark.parametrize(
    ("package", "read", "config"),
    [
        ("duckdb", read_sql, SqlConfig(query="SELECT 1")),
        ("datasets", read_huggingface, HuggingFaceConfig(dataset="shop/items")),
    ],
)
def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch, package, read, config):
    import_module = builtins.__import__

    def without(name, *arguments, **options):
        if name == package:
            raise ImportError(name)
        return import_module(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    message = error_of(read, config)
    assert message.startswith(f"found no package {package}, expected it for ")
    assert message.endswith("pip install 'catid2_jax[data]'")


def test_columns_that_share_a_name_are_the_levels(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text("id,title,c,c,c\n1,Oak shelf,Home,Storage,Shelves\n2,Desk,Home,,Desks\n")
    config = CsvConfig(path=str(path), categories=("c", "c", "c"))
    (source,) = read_csv(config)
    counts, _ = write_dataset(source, tmp_path)
    assert [product.categories for product in stream_products(tmp_path / "catalog.parquet")] == [
        ("Home", "Storage", "Shelves"),
        ("Home", "Desks"),
    ]
    assert counts.with_gaps_in_path == 1
    assert error_of(read_csv, CsvConfig(path=str(path), categories=("c",))) == (
        f"{path}: found 3 columns named 'c', expected 1 of that name"
    )


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("categories", (), "no column"),
        ("kept_path", "last", "'last'"),
        ("separator", "", "''"),
        ("text", ("brand", "title"), "the column 'title'"),
    ],
)
def test_a_wrong_column_map_is_an_error(field, value, found):
    with pytest.raises(InputError) as caught:
        ColumnMap(**{field: value})
    assert (caught.value.where, caught.value.found) == (field, found)


def test_a_wrong_delimiter_is_an_error():
    with pytest.raises(InputError, match="delimiter: found '::', expected one character or 'tab'"):
        CsvConfig(path="", delimiter="::")


def test_ids_of_files_in_sql_are_text(tmp_path):
    pytest.importorskip("duckdb")
    path = tmp_path / "shop.csv"
    ids = [*(str(n) for n in range(1, 30_000)), "007", "90.750", "90.75"]  # typed by the first rows
    path.write_text("sku,title,path,price\n" + "".join(f"{i},t,A,{i}\n" for i in ids))
    for query in (
        f"SELECT sku AS id, title, path AS categories FROM '{path}'",
        f'SELECT p."sku" AS "id", title, path AS categories FROM \'{path}\' p WHERE price > 0',
    ):
        assert [p.id for p in imported(read_sql(SqlConfig(query=query)), tmp_path / "out")] == ids
    guessed = f"SELECT sku AS id, title, path AS categories FROM read_csv('{path}')"
    with console.capture() as capture:
        imported(read_sql(SqlConfig(query=guessed)), tmp_path / "out")
    assert "the column 'id' came as BIGINT: if DuckDB guessed" in capture.get()


def test_what_duckdb_notices_late_is_one_line(tmp_path):
    """It has typed the titles by the first 20,480 rows."""
    pytest.importorskip("duckdb")
    path = tmp_path / "shop.csv"
    path.write_text("id,title,categories\n" + "1,t,A\n" * 20_600 + "2,Bond,A\n")
    message = error_of(read_sql, SqlConfig(query=f"FROM '{path}'"))
    assert message.startswith("query: found Conversion Error: CSV Error on Line: 20602")
    path = tmp_path / "shop.json"
    path.write_text(json.dumps([{"id": i, "title": "t", "categories": "A"} for i in (90.75, "x")]))
    message = error_of(read_sql, SqlConfig(query=f"FROM '{path}'"))
    assert message == (
        "the query's result: found column 'id' of type JSON, expected text: id ->> '$' AS id"
    )
    text = SqlConfig(query=f"SELECT id ->> '$' AS id, title, categories FROM '{path}'")
    assert [p.id for p in imported(read_sql(text), tmp_path)] == ["90.75", "x"]


def test_sqlite_values_of_other_types(tmp_path):
    database = str(tmp_path / "shop.sqlite")
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE shop (id, title, categories)")
        rows = [(4006381333931.0, b"Lamp", "A"), (None, "x", "A"), (90.75, "y", "A")]
        connection.executemany("INSERT INTO shop VALUES (?, ?, ?)", rows)
    connection.close()
    config = SqlConfig(query="SELECT * FROM shop LIMIT 2", database=database)
    assert imported(read_sql(config), tmp_path) == [Product("4006381333931", "Lamp", "", ("A",))]
    place = "the query's result: row {}, column {!r}: found {}"
    for query, expected in (
        ("SELECT * FROM shop", place.format(3, "id", "id 90.75, which came as a number")),
        ("SELECT 1 AS id, x'e9' AS title, '' AS categories", place.format(1, "title", "the bytes")),
        ("SELECT *, 1 AS id FROM shop", "the query's result: found 2 columns named 'id'"),
    ):
        message = error_of(read_sql, SqlConfig(query=query, database=database))
        assert message.startswith(expected)


def test_a_column_that_cannot_be_read_is_named_with_its_file(tmp_path):
    path = str(tmp_path / "items.parquet")
    columns = {"id": ["1"], "title": [b"Caf\xe9"], "categories": [["A"]], "specs": [{"w": 1}]}
    pa.parquet.write_table(pa.table(columns), path)
    assert error_of(read_parquet, ParquetConfig(path=path)).startswith(
        f"{path}: row 1, column 'title': found the bytes b'Caf\\xe9', expected UTF-8"
    )
    specs = ParquetConfig(path=path, title="id", text=("specs",))
    assert "found column 'specs' of type struct<w: int64>" in error_of(read_parquet, specs)
