"""Exports of shops, with the headers and the habits of their software."""

import csv
import gzip
import io

import pytest

from catid2_jax.data.catalog import stream_products
from catid2_jax.data.queries import read_qrels
from catid2_jax.data.sources.dataset import ProductCounts, write_dataset
from catid2_jax.data.sources.google_merchant import GoogleMerchantConfig, read_google_merchant
from catid2_jax.data.sources.shopify import ShopifyConfig, read_shopify
from catid2_jax.data.sources.woocommerce import WooCommerceConfig, read_woocommerce
from catid2_jax.errors import InputError
from catid2_jax.types import Product

TEE = "Apparel & Accessories > Clothing > Shirts & Tops"
MUG = "Home & Garden > Kitchen & Dining > Tableware"
OLD = (
    *("Handle", "Title", "Body (HTML)", "Vendor", "Product Category", "Type", "Tags", "Published"),
    *("Option1 Name", "Option1 Value", "Option1 Linked To", "Option2 Name", "Option2 Value"),
    *("Option2 Linked To", "Option3 Name", "Option3 Value", "Variant SKU", "Variant Price"),
    *("Image Src", "Google Shopping / Google Product Category", "Status"),
)
NEW = (
    *("URL handle", "Title", "Description", "Vendor", "Product category", "Type", "Tags"),
    *("Published on online store", "Option1 name", "Option1 value", "Option1 Linked To"),
    *("Option2 name", "Option2 value", "Option2 Linked To", "Option3 name", "Option3 value"),
    *("SKU", "Price", "Product image URL", "Google Shopping / Google product category", "Status"),
)
SHOPIFY = [
    {0: "tee", 1: "Green tee", 2: "<p>Soft <b>cotton</b></p>", 3: "Acme", 4: TEE, 5: "Tees"}
    | {6: "men, summer", 8: "Size", 9: "S", 11: "Colour", 12: "Red", 16: "'0071", 17: "9.0"},
    {0: "tee", 9: "M", 12: "Red", 16: "T-M", 17: "9.0", 18: "https://x/1.jpg"},
    {0: "tee", 18: "https://x/2.jpg"},
    {0: "mug", 1: "'90s mug", 5: "Mugs", 8: "Title", 9: "Default Title", 17: "5.0", 19: MUG},
    {0: "cap", 1: "Cap", 5: "Hats", 8: "Size", 9: "S"},
    {0: "cap", 9: "L"},
]


def write_rows(path, header, rows, delimiter=","):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(header)
    writer.writerows([row.get(place, "") for place in range(len(header))] for row in rows)
    path.write_text(text.getvalue(), "utf-8-sig")
    return str(path)


def imported(sources, tmp_path):
    (source,) = sources
    counts, _ = write_dataset(source, tmp_path / "out")
    return list(stream_products(tmp_path / "out/catalog.parquet")), counts


@pytest.mark.parametrize("header", [OLD, NEW], ids=["old", "new"])
def test_shopify(tmp_path, header):
    path = write_rows(tmp_path / "products_export.csv", header, SHOPIFY)
    found, counts = imported(read_shopify(ShopifyConfig(path=path)), tmp_path)
    text = "description: Soft cotton; vendor: Acme; type: Tees; tags: men, summer; options: "
    tops = tuple(TEE.split(" > "))
    assert found == [
        Product("0071", "Green tee - S / Red", text + "Size S, Colour Red", tops),
        Product("T-M", "Green tee - M / Red", text + "Size M, Colour Red", tops),
        Product("mug", "'90s mug", "type: Mugs", tuple(MUG.split(" > "))),
        Product("cap", "Cap", "type: Hats; options: Size S, L", ("Hats",)),
    ]
    assert counts == ProductCounts(products=4, variants=2)


def test_shopify_by_handle(tmp_path):
    path = write_rows(tmp_path / "products_export.csv", OLD, SHOPIFY)
    found, counts = imported(read_shopify(ShopifyConfig(path=path, id="handle")), tmp_path)
    assert [(product.id, product.title) for product in found] == [
        ("tee", "Green tee"),
        ("mug", "'90s mug"),
        ("cap", "Cap"),
    ]
    assert found[0].text.endswith("; options: Size S, M, Colour Red")
    assert counts == ProductCounts(products=3, variants=2)


WOO = (
    *("ID", "Type", "SKU", "GTIN, UPC, EAN, or ISBN", "Name", "Published", "Short description"),
    *("Description", "Regular price", "Categories", "Tags", "Parent", "Brands"),
    *("Attribute 1 name", "Attribute 1 value(s)", "Attribute 1 visible", "Attribute 1 global"),
    *("Attribute 2 name", "Attribute 2 value(s)", "Attribute 2 visible", "Attribute 2 global"),
)
PATHS = r"Clothing, Clothing > Hoodies, Sale, Gifts > Men\, women"
HOODIE = {0: "44", 1: "variable", 2: "hood", 4: "Hoodie", 6: "Warm", 7: r"One\nline <b>two</b>"} | {
    9: PATHS,
    10: "winter",
    12: "Acme",
    13: "Colour",
    14: "Blue, Red",
    17: "Logo",
    18: "Yes, No",
}
WOOCOMMERCE = [
    {
        0: "60",
        1: "variation",
        2: "hood-b",
        4: "Hoodie - Blue",
        11: "hood",
        13: "Colour",
        14: "Blue",
    },
    HOODIE,
    {0: "61", 1: "variation, virtual", 11: "id:44", 13: "Colour", 14: "Red", 17: "Logo", 18: "No"},
    {0: "70", 1: "simple", 4: "'=Mug", 9: "Home > Cups"},
    {0: "71", 1: "variation", 2: "lost", 4: "Lost", 11: "gone"},
]


def test_woocommerce(tmp_path):
    path = write_rows(tmp_path / "wc-product-export.csv", WOO, WOOCOMMERCE)
    found, counts = imported(read_woocommerce(WooCommerceConfig(path=path)), tmp_path)
    others = {"other_categories": ["Sale", "Gifts > Men, women"]}
    text = "short description: Warm; description: One line two; tags: winter; brands: Acme; "
    hoodies = ("Clothing", "Hoodies")
    assert found == [
        Product("hood-b", "Hoodie - Blue", f"{text}attributes: Colour Blue", hoodies, others),
        Product(
            "hood",
            "Hoodie",
            f"{text}attributes: Colour Blue, Red; Logo Yes, No",
            hoodies,
            others,
        ),
        Product(
            "61", "Hoodie - Red, No", f"{text}attributes: Colour Red; Logo No", hoodies, others
        ),
        Product("70", "=Mug", "", ("Home", "Cups"), {"other_categories": None}),
    ]
    assert counts == ProductCounts(products=4, variants=2, with_several_paths=3, without_category=1)
    found, _ = imported(read_woocommerce(WooCommerceConfig(path=path, id="ID")), tmp_path)
    assert [product.id for product in found] == ["60", "44", "61", "70"]


FEED = [
    {0: "a1", 1: "Rose water", 2: "Fresh", 4: "Body > Perfume", 5: "479", 6: "Acme", 7: "pink"},
    {0: "a2", 1: "Tee", 4: '"Men, women > Tees", Sale > Summer', 5: TEE},
    {0: "a3", 1: "Cup", 5: "673 - Home & Garden > Cups"},
    {0: "a4", 1: "Pen", 5: "922"},
]
PERFUME, SALE = ("Body", "Perfume"), {"other_categories": ["Sale > Summer"]}
NONE = {"other_categories": None}
MERCHANT = [
    Product("a1", "Rose water", "description: Fresh; brand: Acme; color: pink", PERFUME, NONE),
    Product("a2", "Tee", "", ("Men, women", "Tees"), SALE),
    Product("a3", "Cup", "", ("Home & Garden", "Cups"), NONE),
]


@pytest.mark.parametrize(
    "header",
    [
        *(["id", "title", "description", "link", "product_type", "google_product_category"],),
        *(["ID", "Title", "description", "link", "product type", "google product category"],),
        *(["g:id", "g:title", "g:description", "", "g:product_type", "g:google_product_category"],),
        *(
            [
                *("Kennung [id]", "Titel [title]", "Text [description]", "Link [link]"),
                *("Produkttyp [product_type]", "Kategorie [google_product_category]"),
            ],
        ),
    ],
    ids=["plain", "spaces", "xml names", "descriptive"],
)
@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_google_merchant_as_text(tmp_path, header, delimiter):
    path = write_rows(tmp_path / "feed.txt", [*header, "brand", "color"], FEED, delimiter)
    found, counts = imported(read_google_merchant(GoogleMerchantConfig(path=path)), tmp_path)
    assert found == MERCHANT
    assert counts == ProductCounts(products=3, without_category=1, with_several_paths=1)


RSS = """<?xml version="1.0" encoding="utf-8"?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title>
<item><g:id>a1</g:id><title>Rose water</title>
<g:description><![CDATA[<p>Fresh</p>]]></g:description>
<g:product_type>Body &gt; Perfume</g:product_type>
<g:brand>Acme</g:brand><g:color>pink</g:color></item>
<item><g:id>a2</g:id><title>Old</title><g:title>Tee</g:title><g:product_type>Men, women &gt; Tees
</g:product_type><g:product_type>Sale &gt; Summer</g:product_type></item>
<item><g:id>a3</g:id><title>Cup</title>
<g:google_product_category>673 - Home &amp; Garden &gt; Cups</g:google_product_category></item>
<item><g:id>a4</g:id><title>Pen</title><g:google_product_category>922</g:google_product_category>
</item></channel></rss>"""
ATOM = (
    RSS.replace('<rss version="2.0"', '<feed xmlns="http://www.w3.org/2005/Atom"')
    .replace("<channel>", "")
    .replace("</channel></rss>", "</feed>")
    .replace("<item>", "<entry><id>tag:x</id>")
    .replace("</item>", "</entry>")
)


@pytest.mark.parametrize("feed", [RSS, ATOM], ids=["rss", "atom"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_google_merchant_as_xml(tmp_path, feed, suffix):
    path = tmp_path / f"feed.xml{suffix}"
    path.write_bytes(gzip.compress(feed.encode()) if suffix else feed.encode())
    config = GoogleMerchantConfig(path=str(path))
    assert imported(read_google_merchant(config), tmp_path)[0] == MERCHANT


def test_the_numbers_of_googles_taxonomy(tmp_path):
    taxonomy = tmp_path / "taxonomy-with-ids.en-US.txt"
    taxonomy.write_text(
        "# Google_Product_Taxonomy_Version: 2021-09-21\n1 - Animals\n922 - A > Pens\n"
    )
    header = ["id", "title", "description", "link", "product_type", "google_product_category"]
    path = write_rows(tmp_path / "feed.tsv", header, FEED, "\t")
    config = GoogleMerchantConfig(path=path, taxonomy=str(taxonomy))
    found, counts = imported(read_google_merchant(config), tmp_path)
    assert (found[-1].id, found[-1].categories) == ("a4", ("A", "Pens"))
    assert counts.without_category == 0
    taxonomy.write_text("Animals > Pets\n")
    with pytest.raises(InputError, match="found no line of a number and a path"):
        imported(read_google_merchant(config), tmp_path)


def test_judgements_of_an_export(tmp_path):
    path = write_rows(tmp_path / "products_export.csv", OLD, SHOPIFY)
    judged = tmp_path / "judged.csv"
    judged.write_text("query_id,query,product_id,label,split\n1,tee,T-M,E,test\n")
    imported(read_shopify(ShopifyConfig(path=path, judgements=str(judged))), tmp_path)
    assert read_qrels(tmp_path / "out/qrels.test.txt") == {"1": {"T-M": 3}}


@pytest.mark.parametrize(
    ("read", "config", "text", "expected"),
    [
        (
            read_shopify,
            ShopifyConfig,
            "id,Title\n",
            ": found the columns id, Title, expected also ",
        ),
        (read_woocommerce, WooCommerceConfig, "ID,Typ,Name\n", ": found the columns ID, Typ, Name"),
        (read_google_merchant, GoogleMerchantConfig, "sku\ttitle\n", ", expected also 'id'"),
        (
            read_google_merchant,
            GoogleMerchantConfig,
            "<rss><item>",
            ": found broken XML (no element",
        ),
        (read_google_merchant, GoogleMerchantConfig, "", ": found no line, expected a header"),
        (read_shopify, ShopifyConfig, "Handle,Title\ra,b\r", ": found lines that end in CR alone"),
    ],
)
def test_files_that_are_no_such_export(tmp_path, read, config, text, expected):
    path = tmp_path / "export"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        imported(read(config(path=str(path))), tmp_path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_another_id_is_an_error():
    with pytest.raises(InputError, match="id: found 'Handle', expected 'sku' or 'handle'"):
        ShopifyConfig(path="", id="Handle")
    with pytest.raises(InputError, match="id: found 'sku', expected 'SKU' or 'ID'"):
        WooCommerceConfig(path="", id="sku")


def test_separators_of_an_export_can_be_given(tmp_path):
    rows = [{0: f"p{n}", 1: "Towel", 5: "Bed/Bath"} for n in range(3)]
    path = write_rows(tmp_path / "products_export.csv", OLD, rows)
    with pytest.raises(InputError, match="separator: found '>' in none of 3 category cells"):
        imported(read_shopify(ShopifyConfig(path=path)), tmp_path)
    for separator, expected in (("none", ("Bed/Bath",)), ("/", ("Bed", "Bath"))):
        config = ShopifyConfig(path=path, separator=separator)
        assert imported(read_shopify(config), tmp_path)[0][0].categories == expected
    path = write_rows(tmp_path / "wc-product-export.csv", WOO, [HOODIE])
    config = WooCommerceConfig(path=path, path_separator="none")
    assert imported(read_woocommerce(config), tmp_path)[0][0].categories[0] == "Clothing, Clothing"
