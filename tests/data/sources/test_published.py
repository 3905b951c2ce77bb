"""WANDS and Amazon Reviews 2023 are read in the form in which they are published."""

import gzip
import json

import pytest

from catid2_jax.data.catalog import stream_products
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.data.sources.amazon_reviews import AmazonReviewsConfig, read_amazon_reviews
from catid2_jax.data.sources.dataset import WritingConfig, write_dataset
from catid2_jax.data.sources.wands import WandsConfig, read_wands
from catid2_jax.errors import InputError
from catid2_jax.types import Product

# Header of the published product.csv; the README names the hierarchy with an underscore.
WANDS_HEADER = (
    "product_id\tproduct_name\tproduct_class\t{hierarchy}\tproduct_description\t"
    "product_features\trating_count\taverage_rating\treview_count"
)


def write_wands(folder, labels, hierarchy="category hierarchy"):
    header = WANDS_HEADER.format(hierarchy=hierarchy)
    (folder / "product.csv").write_text(
        f"{header}\n"
        "0\tsolid wood platform bed\tBeds\tFurniture / Bedroom Furniture / Beds & Headboards / Beds"
        "\tgood , deep sleep\toverallwidth:64.7|dsprimaryproductstyle : modern\t15.0\t4.5\t15.0\n"
        '1\t"27.5 "" bar stool"\tBar Stools\tFurniture / TV Stands/Media\t\t\t\t\t\n'
        "2\tno hierarchy\t\t\tx\t\t1.0\t5.0\t1.0\n"
    )
    (folder / "query.csv").write_text(
        "query_id\tquery\tquery_class\n0\tsalon chair\tMassage Chairs\n1\tbed\tBeds\n2\tstool\t\n"
    )
    lines = "".join(f"{n}\t{q}\t{p}\t{label}\n" for n, (q, p, label) in enumerate(labels))
    (folder / "label.csv").write_text(f"id\tquery_id\tproduct_id\tlabel\n{lines}")
    return WandsConfig(path=str(folder))


LABELS = [(1, 0, "Exact"), (2, 1, "Partial"), (2, 0, "Irrelevant"), (2, 2, "Exact")]


@pytest.mark.parametrize("hierarchy", ["category hierarchy", "category_hierarchy"])
def test_wands(tmp_path, hierarchy):
    config = write_wands(tmp_path, LABELS, hierarchy)
    (source,) = read_wands(config)
    counts, judgements = write_dataset(source, tmp_path / "out", WritingConfig(test_share=0.0))
    assert list(stream_products(tmp_path / "out/catalog.parquet")) == [
        Product(
            "0",
            "solid wood platform bed",
            "class: Beds; description: good , deep sleep; "
            "features: overallwidth:64.7, dsprimaryproductstyle : modern",
            ("Furniture", "Bedroom Furniture", "Beds & Headboards", "Beds"),
        ),
        Product("1", '27.5 " bar stool', "class: Bar Stools", ("Furniture", "TV Stands/Media")),
    ]
    assert (counts.without_category, judgements.on_products_left_out) == (1, 1)
    assert read_qrels(tmp_path / "out/qrels.train.txt") == {"1": {"0": 3}, "2": {"1": 2, "0": 0}}
    queries = read_queries(tmp_path / "out/queries.train.jsonl")
    assert [(query.id, query.text) for query in queries] == [("1", "bed"), ("2", "stool")]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([(9, 0, "Exact")], "found query '9', expected one of query.csv"),
        (
            [(0, 0, "Exactly")],
            "found label 'Exactly', expected one of Exact, Partial, Irrelevant",
        ),
    ],
)
def test_wands_with_bad_labels(tmp_path, labels, expected):
    (source,) = read_wands(write_wands(tmp_path, labels))
    with pytest.raises(InputError) as caught:
        write_dataset(source, tmp_path / "out")
    assert str(caught.value) == f"{tmp_path / 'label.csv'}: {expected}"


def test_wands_without_a_hierarchy(tmp_path):
    (source,) = read_wands(write_wands(tmp_path, LABELS, "categories"))
    with pytest.raises(InputError, match="expected also 'category hierarchy'"):
        list(source.products)


ITEM = {
    "main_category": "Video Games",
    "title": "Pad <i>&amp;</i> Cable",
    "average_rating": 4.3,
    "rating_number": 12,
    "features": ["Wireless", "40 h battery"],
    "description": ["A pad.", "Nice"],
    "price": "from 14.99",
    "images": [{"thumb": "t.jpg", "variant": "MAIN", "hi_res": None}],
    "videos": [],
    "store": "Acme",
    "categories": ["Video Games", "PC", "Accessories"],
    "details": {"Brand": "Acme", "Color": "青", "Best Sellers Rank": {"Video Games": 48130}},
    "parent_asin": "B00069EVOG",
    "bought_together": None,
}
BARE = (
    ITEM
    | {"parent_asin": "B2", "price": 9.99, "store": None, "details": {}}
    | {
        "features": [],
        "description": [],
    }
)


def write_items(path, *items):
    path.write_bytes(gzip.compress("".join(f"{json.dumps(item)}\n" for item in items).encode()))
    return path


def test_amazon_reviews_metadata(tmp_path):
    path = write_items(
        tmp_path / "meta_Video_Games.jsonl.gz",
        ITEM,
        BARE,
        BARE | {"parent_asin": "B3", "categories": []},
    )
    (source,) = read_amazon_reviews(AmazonReviewsConfig(path=str(path)))
    counts, _ = write_dataset(source, tmp_path / "out")
    path = ("Video Games", "PC", "Accessories")
    assert list(stream_products(tmp_path / "out/catalog.parquet")) == [
        Product(
            "B00069EVOG",
            "Pad & Cable",
            "description: A pad. Nice; features: Wireless 40 h battery; store: Acme; "
            "brand: Acme; color: 青",
            path,
        ),
        Product("B2", "Pad & Cable", "", path),
    ]
    assert counts.without_category == 1


def test_amazon_reviews_of_a_folder_with_judgements(tmp_path):
    write_items(tmp_path / "meta_B.jsonl.gz", BARE)
    write_items(tmp_path / "meta_A.jsonl.gz", ITEM)
    judgements = tmp_path / "judged.csv"
    judgements.write_text("query_id,query,product_id,label,split\n1,pad,B2,E,test\n")
    config = AmazonReviewsConfig(path=str(tmp_path), judgements=str(judgements))
    (source,) = read_amazon_reviews(config)
    write_dataset(source, tmp_path / "out")
    catalog = stream_products(tmp_path / "out/catalog.parquet")
    assert [product.id for product in catalog] == ["B00069EVOG", "B2"]
    assert read_qrels(tmp_path / "out/qrels.test.txt") == {"1": {"B2": 3}}


def test_a_bad_line_of_metadata_is_named(tmp_path):
    path = write_items(tmp_path / "meta_A.jsonl.gz", ITEM, ITEM | {"title": ["Pad"]})
    (source,) = read_amazon_reviews(AmazonReviewsConfig(path=str(path)))
    with pytest.raises(InputError) as caught:
        list(source.products)
    assert str(caught.value) == f"{path}:2: found title ['Pad'], expected string"
