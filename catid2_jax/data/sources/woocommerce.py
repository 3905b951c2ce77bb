"""Reads the product export of WooCommerce (its built-in CSV exporter, in English)."""

import dataclasses
from collections.abc import Iterator

import pyarrow as pa

from catid2_jax.data.sources.dataset import ProductCounts, Source
from catid2_jax.data.sources.shop_exports import Row, ShopExport, export_rows, export_source
from catid2_jax.errors import InputError

_ATTRIBUTES = range(1, 21)
_COLUMNS = {
    "number": ("ID",),
    "kind": ("Type",),
    "sku": ("SKU",),
    "title": ("Name",),
    "short description": ("Short description",),
    "description": ("Description",),
    "categories": ("Categories",),
    "tags": ("Tags",),
    "brands": ("Brands",),
    "parent": ("Parent",),
    **{f"name{n}": (f"Attribute {n} name",) for n in _ATTRIBUTES},
    **{f"value{n}": (f"Attribute {n} value(s)",) for n in _ATTRIBUTES},
}
_SHARED = ("title", "categories", "short description", "description", "tags", "brands")
_TEXT = (*_SHARED[2:], "attributes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WooCommerceConfig(ShopExport):
    r"""WooCommerce's export of products, whose variations have no categories.

    A cell of categories holds several paths, such as "Tops > Tees, Sale", with "\," inside of a
    name; the deepest is kept.

    Attributes:
        id: column of the ids, "SKU" (where that is empty, the ID) or "ID".

    Raises:
        InputError: another id.
    """

    path_separator: str = ","
    id: str = "SKU"

    def __post_init__(self) -> None:
        if self.id not in ("SKU", "ID"):
            raise InputError("id", repr(self.id), "'SKU' or 'ID'")


def read_woocommerce(config: WooCommerceConfig) -> list[Source]:
    """Reads the export twice: variations may stand before the product that they belong to.

    Raises:
        InputError: while iterating, at a file that is not as exported.
    """
    counts = ProductCounts()
    return [export_source(config, _products(config, counts), counts, pa.string(), _TEXT)]


def _products(config: WooCommerceConfig, counts: ProductCounts) -> Iterator[Row]:
    parents: dict[str, Row] = {}
    for row in _rows(config):
        if "variable" in row["kind"]:
            shared = {name: row[name] for name in _SHARED}
            parents |= {key: shared for key in (row["sku"], f"id:{row['number']}") if key}
    for row in _rows(config):
        parent = parents.get(row["parent"]) if "variation" in row["kind"] else None
        if parent:
            counts.variants += 1
            values = ", ".join(row[f"value{n}"] for n in _ATTRIBUTES if row[f"value{n}"])
            row["title"] = row["title"] or f"{parent['title']} - {values}".removesuffix(" - ")
            row |= {name: row[name] or parent[name] for name in _SHARED}
        yield _product(row, config.id)


def _rows(config: WooCommerceConfig) -> Iterator[Row]:
    return export_rows(config, _COLUMNS, ("kind", "sku", "title", "categories"))


def _product(row: Row, id_column: str) -> Row:
    attributes = (f"{row[f'name{n}']} {row[f'value{n}']}" for n in _ATTRIBUTES if row[f"value{n}"])
    return {
        **{name: row[name] for name in _SHARED},
        # The exporter writes a line end as a backslash and an n.
        "description": row["description"].replace("\\n", "\n"),
        "short description": row["short description"].replace("\\n", "\n"),
        "id": (row["sku"] if id_column == "SKU" else "") or row["number"],
        "attributes": "; ".join(attributes),
    }
