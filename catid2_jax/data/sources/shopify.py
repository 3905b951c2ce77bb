"""Reads the product export of Shopify (help.shopify.com: using CSV files to import products)."""

import dataclasses
from collections.abc import Iterator

import pyarrow as pa

from catid2_jax.data.sources.dataset import ProductCounts, Source
from catid2_jax.data.sources.shop_exports import Row, ShopExport, export_rows, export_source
from catid2_jax.errors import InputError

_OPTIONS = (1, 2, 3)
_COLUMNS = {
    "handle": ("Handle", "URL handle"),
    "title": ("Title",),
    "description": ("Body (HTML)", "Description"),
    "vendor": ("Vendor",),
    "category": ("Product Category", "Product category"),
    "google": (
        "Google Shopping / Google Product Category",
        "Google Shopping / Google product category",
        "Google Shopping / Product category",
    ),
    "type": ("Type",),
    "tags": ("Tags",),
    "sku": ("Variant SKU", "SKU"),
    **{f"name{n}": (f"Option{n} Name", f"Option{n} name") for n in _OPTIONS},
    **{f"value{n}": (f"Option{n} Value", f"Option{n} value") for n in _OPTIONS},
}
_NO_OPTION = "Default Title"
_TEXT = ("description", "vendor", "type", "tags", "options")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShopifyConfig(ShopExport):
    """Shopify's export of products, of which a variant has a row of its own and no title.

    The category is the product category, else Google's, else the type.

    Attributes:
        id: "sku" makes a product of every variant that has an SKU, with the title of the first row
            and its own options after it; the others of a handle become one product with its handle.
            "handle" makes one product of all variants of a handle.

    Raises:
        InputError: another id.
    """

    path_separator: str = "none"
    id: str = "sku"

    def __post_init__(self) -> None:
        if self.id not in ("sku", "handle"):
            raise InputError("id", repr(self.id), "'sku' or 'handle'")


def read_shopify(config: ShopifyConfig) -> list[Source]:
    """Reads the export; rows that only add an image to a product are passed over.

    Raises:
        InputError: while iterating, at a file that is not as exported.
    """
    counts = ProductCounts()
    products = _variants if config.id == "sku" else _handles
    return [export_source(config, products(config, counts), counts, pa.string(), _TEXT)]


def _variants(config: ShopifyConfig, counts: ProductCounts) -> Iterator[Row]:
    for group in _groups(config):
        first, without_sku = group[0], [row for row in group if not row["sku"]]
        if without_sku:
            yield _product(first, first["handle"], first["title"], _options(first, without_sku))
        for row in (row for row in group if row["sku"]):
            options = _options(first, [row])
            title = " - ".join(filter(None, (first["title"], " / ".join(options.values()))))
            yield _product(first, row["sku"].removeprefix("'"), title, options)
        counts.variants += len(group) - 1


def _handles(config: ShopifyConfig, counts: ProductCounts) -> Iterator[Row]:
    for first, *others in _groups(config):
        yield _product(first, first["handle"], first["title"], _options(first, [first, *others]))
        counts.variants += len(others)


def _groups(config: ShopifyConfig) -> Iterator[list[Row]]:
    """Yields the rows of each handle that are variants; the first has what all share."""
    group: list[Row] = []
    for row in export_rows(config, _COLUMNS, ("handle", "title")):
        if group and row["handle"] != group[0]["handle"]:
            yield group
            group = []
        if not group or row["title"] or row["sku"] or row["value1"]:
            group.append(row)
    if group:
        yield group


def _options(first: Row, rows: list[Row]) -> dict[str, str]:
    """Returns the values of each option, such as {"Colour": "red, blue"}."""
    options = {}
    for n in _OPTIONS:
        values = dict.fromkeys(row[f"value{n}"] for row in rows)
        texts = [value for value in values if value and value != _NO_OPTION]
        if texts:
            options[first[f"name{n}"] or f"Option {n}"] = ", ".join(texts)
    return options


def _product(first: Row, product_id: str, title: str, options: dict[str, str]) -> Row:
    return {
        **{name: first[name] for name in _TEXT if name in first},
        "id": product_id,
        "title": title,
        "categories": first["category"] or first["google"] or first["type"],
        "options": ", ".join(f"{name} {value}" for name, value in options.items()),
    }
