import io
import random

import pyarrow as pa
import pyarrow.parquet
import pytest
import rich.console

from catid2_jax.data.catalog import stream_products
from catid2_jax.data.preprocessing import PreprocessingConfig
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.data.sources import reading
from catid2_jax.data.sources.dataset import ProductCounts, write_dataset
from catid2_jax.data.sources.esci import TABLE_1, EsciConfig, dataset_figures, read_esci, table_1
from catid2_jax.data.sources.judgements import JudgementCounts
from catid2_jax.errors import InputError
from catid2_jax.types import Product, Query
from tests.data.esci_files import LEVELS, example, page, product, publish


def imported(directory, files, **choices):
    """Locale -> counts, with the files written below `directory`."""
    sources = read_esci(EsciConfig(**files, **choices))
    return {source.name: write_dataset(source, directory) for source in sources}


def error_of(directory, files, **choices):
    with pytest.raises(InputError) as caught:
        imported(directory, files, **choices)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_awkward_rows(tmp_path):
    products = [
        product(
            "B01",
            "Big <b>Mug</b> &amp; Lid",
            "A mug.<br>Stone&nbsp;ware",
            "<ul><li>Holds 0.3 l</li><li>Safe</li></ul>\nGift 🎁",
            "Acme",
            "Blue",
        ),
        product("B11", "カップ 👩\u200d🚀 é", brand="🎁"),
        product("B02", "スマホ　ケース", None, None, None, "青"),
        product("B03", None, "no title"),
        product("B04", "   "),
        product("B05", "Repeated", "first"),
        product("B05", "Repeated again", "second"),
        product("B06", "No page"),
        product("B07", "Page without a path"),
        product("B08", "Page that failed"),
        product("B09", "Not judged"),
        [*product("B10", "Without a locale"), None],
        *(product(f"D{depth}", f"Depth {depth}") for depth in range(10)),
    ]
    ids = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B10"]
    examples = [example(1, i) for i in ids] + [example(2, f"D{n}", "S", "test") for n in range(10)]
    examples += [example(3, "B01", query=None) for _ in range(2)]
    examples += [example(4, "B01", "I", query=" "), example(1, "B09", small=0)]
    examples += [example(5, "B11", query="カップ 🎁"), example(6, "B01", locale=None)]
    pages = [
        page("B01", ["Home &amp; Kitchen", " Cups ", "", None, "Mugs"], price="$3", reviews=[{}]),
        page("B02", ["携帯電話", "ケース", "カバー"]),
        page("B03", 3),
        page("B04", 3),
        page("B05", 3, type="book"),
        page("B05", 1),
        page("B07", []),
        {"type": "error", "asin": "B08", "locale": "us", "error": "404"},
        page("B09", 3),
        page("B10", 3),
        page("B11", ["ホーム", "🎁 Gifts"], None),
        {"type": "product", "asin": "B11", "category": ["Home"]},
        page("B11", ["ホーム", "🎁 Gifts"]),
        *(page(f"D{depth}", depth) for depth in range(10)),
    ]
    files = publish(tmp_path, products, examples, pages)
    counts, judgements = imported(tmp_path / "out", files, locales=("us",))["us"]

    catalog = list(stream_products(tmp_path / "out/us/catalog.parquet"))
    assert catalog == [
        Product(
            "B01",
            "Big Mug & Lid",
            "description: A mug. Stone ware; bullet points: Holds 0.3 l Safe Gift 🎁; "
            "brand: Acme; color: Blue",
            ("Home & Kitchen", "Cups", "Mugs"),
        ),
        Product("B11", "カップ 👩\u200d🚀 é", "brand: 🎁", ("ホーム", "🎁 Gifts")),
        Product("B02", "スマホ ケース", "color: 青", ("携帯電話", "ケース", "カバー")),
        Product("B05", "Repeated", "description: first", LEVELS[:3]),
        *(Product(f"D{depth}", f"Depth {depth}", "", LEVELS[:depth]) for depth in range(1, 10)),
    ]
    assert counts == ProductCounts(
        products=13,
        without_title=2,
        without_category=4,
        repeated=1,
        without_id=0,
        with_gaps_in_path=1,
    )
    # Left out: B03, B04, B06, B07, B08, B10 and D0.
    assert judgements == JudgementCounts(
        judgements=14, without_query=1, on_products_left_out=7, repeated=1
    )
    assert read_queries(tmp_path / "out/us/queries.train.jsonl") == [
        Query("1", "query 1"),
        Query("3", "query 3"),
        Query("5", "カップ 🎁"),
    ]
    assert read_qrels(tmp_path / "out/us/qrels.train.txt") == {
        "1": {"B01": 3, "B02": 3, "B05": 3},
        "3": {"B01": 3},
        "5": {"B11": 3},
    }
    assert read_qrels(tmp_path / "out/us/qrels.test.txt") == {
        "2": {f"D{depth}": 2 for depth in range(1, 10)}
    }


@pytest.mark.parametrize("metadata", ["esci.json", "esci.json.gz", "esci.json.zst"])
def test_a_locale_has_its_own_products_queries_and_category_names(tmp_path, metadata):
    products = [[*product("B1", f"Mug {locale}"), locale] for locale in ("jp", "us", "es")]
    examples = [example(n, "B1", locale=locale) for n, locale in enumerate(("us", "es", "jp"))]
    pages = [page("B1", [f"Home {locale}"], locale) for locale in ("us", "es", "jp")]
    files = publish(tmp_path, products, examples, pages, metadata)
    assert list(imported(tmp_path, files)) == ["us", "es", "jp"]
    for number, locale in enumerate(("us", "es", "jp")):
        assert list(stream_products(tmp_path / locale / "catalog.parquet")) == [
            Product("B1", f"Mug {locale}", "", (f"Home {locale}",))
        ]
        assert read_qrels(tmp_path / locale / "qrels.train.txt") == {str(number): {"B1": 3}}


def test_every_choice_against_rows_picked_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BATCH_ROWS", 7)
    draw = random.Random(0)
    ids = [f"B{n}" for n in range(200)]
    locales = ("us", "es", "jp")
    products = [[*product(i, f"title {i}"), draw.choice(locales)] for i in ids]
    examples = [
        example(
            query := draw.randrange(90),
            draw.choice(ids[:180]),
            draw.choice("ESCI"),
            "test" if query % 3 == 0 else "train",
            query % 2,
            draw.choice(locales),
        )
        for _ in range(600)
    ]
    pages = [
        page(i, draw.randrange(5), draw.choice(locales), type=draw.choice(["product", "book"]))
        for i in ids
        for _ in range(2)
    ]
    files = publish(tmp_path, products, examples, pages)
    catalogs = set()
    for choices in (
        {},
        {"version": "large"},
        {"document_splits": ("train",), "version": "large"},
        {"document_labels": ("E", "S"), "version": "large"},
        {"metadata_types": ("product",), "version": "large"},
    ):
        config = EsciConfig(**files, **choices)
        imported(tmp_path, files, **choices)
        for locale in locales:
            judged = [
                row
                for row in examples
                if row[3] == locale and (config.version == "large" or row[5] == 1)
            ]
            documents = {
                row[2]
                for row in judged
                if row[7] in config.document_splits and row[4] in config.document_labels
            }
            paths = {}
            for record in pages:
                if (
                    record["locale"] == locale
                    and record["type"] in config.metadata_types
                    and record["category"]
                ):
                    paths.setdefault(record["asin"], tuple(record["category"]))
            expected = {
                row[0]: paths[row[0]]
                for row in products
                if row[6] == locale and row[0] in documents and row[0] in paths
            }
            catalog = stream_products(tmp_path / locale / "catalog.parquet")
            assert {entry.id: entry.categories for entry in catalog} == expected
            grades = {}
            for row in judged:
                if row[2] in expected:
                    queries = grades.setdefault(row[7], {})
                    queries.setdefault(str(row[1]), {}).setdefault(row[2], "ICSE".index(row[4]))
            for split in ("train", "test"):
                path = tmp_path / locale / f"qrels.{split}.txt"
                assert (read_qrels(path) if path.exists() else None) == grades.get(split)
            catalogs.add((locale, *expected))
    assert len(catalogs) == 5 * 3  # each choice makes a difference


def test_figures_worked_by_hand(tmp_path):
    products = [product(i) for i in ("deep", "exact", "shallow", "unseen", "other")]
    examples = [
        example(1, "deep", "E"),
        example(1, "exact", "S"),
        example(1, "shallow", "E"),
        example(2, "other", "C"),
        example(3, "deep", "I"),
        example(3, "exact", "E"),
        example(10, "deep", "E", "test"),
        example(10, "exact", "I", "test"),
        example(10, "unseen", "E", "test"),
        example(11, "other", "E", "test"),
    ]
    pages = [page(i, 3) for i in ("exact", "unseen", "other")]
    files = publish(tmp_path, products, examples, [*pages, page("deep", 7), page("shallow", 2)])
    imported(tmp_path, files, locales=("us",))
    assert dataset_figures(tmp_path / "us") == {
        "documents": 4,
        "train_queries": 2,
        "train_pairs": 3,
        "train_pairs_any_label": 5,
        "test_queries": 1,
        "test_pairs": 1,
        "test_pairs_any_label": 2,
    }
    deeper = PreprocessingConfig(minimum_depth=2, test_seen_in_training=False)
    assert dataset_figures(tmp_path / "us", deeper) == {
        "documents": 5,
        "train_queries": 2,
        "train_pairs": 4,
        "train_pairs_any_label": 6,
        "test_queries": 2,
        "test_pairs": 3,
        "test_pairs_any_label": 4,
    }


def test_figures_of_a_data_set_without_a_test(tmp_path):
    files = publish(tmp_path, *GOOD)
    imported(tmp_path, files, locales=("us",))
    figures = dataset_figures(tmp_path / "us")
    assert (figures["train_pairs"], figures["test_queries"], figures["test_pairs"]) == (1, 0, 0)


def test_the_table_names_the_difference_of_every_row():
    figures = {
        "documents": 131_935,
        "train_queries": 5_000,
        "train_pairs": 121_298,
        "train_pairs_any_label": 150_000,
        "test_queries": 1_612,
        "test_pairs": 0,
        "test_pairs_any_label": 12_177,
    }
    text = io.StringIO()
    rich.console.Console(file=text, width=100).print(table_1("es", figures))
    rows = [
        [cell.strip() for cell in line.split("│")][1:-1] for line in text.getvalue().split("\n")
    ]
    assert [row for row in rows if len(row) == 4] == [
        ["documents", "131,935", "131,935", "none"],
        ["train queries", "5,000", "5,350", "-350 (-6.5%)"],
        ["train pairs", "121,298", "121,297", "+1 (+0.0%)"],
        ["train pairs any label", "150,000", "121,297", "+28,703 (+23.7%)"],
        ["test queries", "1,612", "1,612", "none"],
        ["test pairs", "0", "12,176", "-12,176 (-100.0%)"],
        ["test pairs any label", "12,177", "12,176", "+1 (+0.0%)"],
    ]


def test_the_papers_table():
    # Table 1: Docs, Train Queries, Q-D Pairs, Test Queries, Q-D Pairs.
    rows = """ESCI-us	386,392	20,001	341,460	5,800	29,351
ESCI-es	131,935	5,350	121,297	1,612	12,176
ESCI-jp	152,845	6,458	139,508	1,832	14,353"""
    read = [row.replace(",", "").removeprefix("ESCI-").split("\t") for row in rows.split("\n")]
    assert {row[0]: tuple(map(int, row[1:])) for row in read} == TABLE_1


GOOD = ([product("B1")], [example(1, "B1")], [page("B1", 3)])


@pytest.mark.parametrize(
    ("file", "column"), [("products", "product_brand"), ("examples", "small_version")]
)
def test_a_missing_column_is_named_with_those_found(tmp_path, file, column):
    files = publish(tmp_path, *GOOD)
    table = pa.parquet.read_table(files[file]).drop_columns([column])
    pa.parquet.write_table(table, files[file])
    found = ", ".join(table.column_names)
    message = error_of(tmp_path, files, locales=("us",))
    assert message == f"{files[file]}: found the columns {found}, expected also {column!r}"


def test_a_locale_without_examples_or_categories_is_an_error(tmp_path):
    files = publish(tmp_path, *GOOD)
    assert error_of(tmp_path, files, locales=("jp",)) == (
        f"{files['examples']}: found no example of locale 'jp' with small_version 1, "
        "expected at least one"
    )
    files = publish(tmp_path, GOOD[0], GOOD[1], [page("B1", 3, "en")])
    assert error_of(tmp_path, files, locales=("us",)) == (
        f"{files['metadata']}: found no category path of locale 'us', expected at least one"
    )


def test_a_label_that_esci_has_not_is_an_error(tmp_path):
    files = publish(tmp_path, GOOD[0], [example(1, "B1", "X")], GOOD[2])
    message = error_of(tmp_path, files, locales=("us",))
    assert message == f"{files['examples']}: found esci_label 'X', expected one of E, S, C, I"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("locales", ("us", "fr")),
        ("locales", ()),
        ("version", "medium"),
        ("document_splits", ("dev",)),
        ("document_labels", ("Exact",)),
    ],
)
def test_a_wrong_choice_is_an_error(field, value):
    with pytest.raises(InputError) as caught:
        EsciConfig(products="", examples="", metadata="", **{field: value})
    assert (caught.value.where, caught.value.found) == (field, repr(value))
