"""Writes files of ESCI and ESCI-S in the form in which they are published."""

import json

import pyarrow as pa
import pyarrow.parquet

# The published schemas, as pandas reads them from github.com/amazon-science/esci-data.
PRODUCTS = pa.schema(
    [
        (f"product_{name}", pa.string())
        for name in ("id", "title", "description", "bullet_point", "brand", "color", "locale")
    ]
)
EXAMPLES = pa.schema(
    [
        ("example_id", pa.int64()),
        ("query", pa.string()),
        ("query_id", pa.int64()),
        ("product_id", pa.string()),
        ("product_locale", pa.string()),
        ("esci_label", pa.string()),
        ("small_version", pa.int64()),
        ("large_version", pa.int64()),
        ("split", pa.string()),
    ]
)
LEVELS = ("Home", "Kitchen", "Cups", "Mugs", "Blue", "Large", "Stone", "Old", "Dear")


def product(product_id, title="Mug", description=None, bullets=None, brand=None, color=None):
    return [product_id, title, description, bullets, brand, color]


def page(product_id, levels, locale="us", **fields):
    category = levels if isinstance(levels, list) else list(LEVELS[:levels])
    return {"type": "product", "asin": product_id, "locale": locale, "category": category} | fields


def example(query_id, product_id, label="E", split="train", small=1, locale="us", query=None):
    query = f"query {query_id}" if query is None else query
    return [query, query_id, product_id, locale, label, small, 1, split]


def publish(directory, products, examples, pages, metadata="esci.json"):
    """Writes the three files; products are [..., locale], or [...] for the locale "us"."""
    rows = [row if len(row) == 7 else [*row, "us"] for row in products]
    table = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    pa.parquet.write_table(pa.table(table, schema=PRODUCTS), directory / "products.parquet")
    rows = [[number, *row] for number, row in enumerate(examples)]
    columns = zip(zip(*rows, strict=True), EXAMPLES, strict=True)
    table = [pa.array(column, field.type) for column, field in columns]
    pa.parquet.write_table(pa.table(table, schema=EXAMPLES), directory / "examples.parquet")
    lines = "".join(json.dumps(page, ensure_ascii=False) + "\n" for page in pages)
    with pa.output_stream(str(directory / metadata), compression="detect") as file:
        file.write(lines.encode())
    return {
        "products": str(directory / "products.parquet"),
        "examples": str(directory / "examples.parquet"),
        "metadata": str(directory / metadata),
    }
