"""Reads product data of Google Merchant Center (support.google.com/merchants/answer/7052112)."""

import csv
import dataclasses
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pyarrow as pa

from catid2_jax.constraints import LocalPath
from catid2_jax.data.lines import decode_line
from catid2_jax.data.sources.dataset import ProductCounts, Source
from catid2_jax.data.sources.reading import csv_header, reading
from catid2_jax.data.sources.shop_exports import ShopExport, export_rows, export_source
from catid2_jax.errors import InputError

Item = dict[str, list[str]]

_TEXT = (
    *("description", "brand", "color", "size", "material", "pattern", "gender", "age_group"),
    *("product_highlight", "condition"),
)
_NAMES = ("id", "title", "product_type", "google_product_category", *_TEXT)
_PATHS = pa.list_(pa.list_(pa.string()))
_NUMBERED = re.compile(r"(\d+)\s*(?:-\s*(.*))?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoogleMerchantConfig(ShopExport):
    """A feed as text (tabs or commas between the cells) or XML (RSS or Atom).

    The category is the product type, which is the shop's own, else Google's product category.

    Attributes:
        taxonomy: Google's taxonomy-with-ids file, which says what category a number stands for;
            without it, products that have a number alone are left out as those without a category.
    """

    taxonomy: LocalPath = ""


def read_google_merchant(config: GoogleMerchantConfig) -> list[Source]:
    """Reads the feed.

    Raises:
        InputError: while iterating, at a feed that is not as specified.
    """
    products = _products(config)
    return [export_source(config, products, ProductCounts(), _PATHS, _TEXT)]


def _products(config: GoogleMerchantConfig) -> Iterator[dict[str, object]]:
    taxonomy = _read_taxonomy(config.taxonomy) if config.taxonomy else {}
    for item in _items(config):
        types = [value for value in item.get("product_type", ()) if value]
        numbered = (_path(value, taxonomy) for value in item.get("google_product_category", ()))
        yield {
            **{name: ", ".join(item.get(name, ())) for name in ("id", "title", *_TEXT)},
            "categories": [[path] for path in types or filter(None, numbered)],
        }


def _path(category: str, taxonomy: dict[str, str]) -> str:
    match = _NUMBERED.fullmatch(category)
    return (match[2] or taxonomy.get(match[1], "")) if match else category


def _read_taxonomy(path: str) -> dict[str, str]:
    with reading(path), open(path, "rb") as file:
        lines = (decode_line(line, f"{path}:{n}").strip() for n, line in enumerate(file, 1))
        found = {m[1]: m[2] for line in lines if (m := _NUMBERED.fullmatch(line)) and m[2]}
    if not found:
        raise InputError(path, "no line of a number and a path", "lines such as '1 - Animals'")
    return found


def _items(config: GoogleMerchantConfig) -> Iterator[Item]:
    with reading(config.path), pa.input_stream(config.path, compression="detect") as stream:
        is_xml = stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    return _xml_items(config.path) if is_xml else _text_items(config)


def _text_items(config: GoogleMerchantConfig) -> Iterator[Item]:
    delimiter = "\t" if len(csv_header(config.path, "\t", config.encoding)) > 1 else ","
    header = csv_header(config.path, delimiter, config.encoding)
    columns = {name: [n for n in header if _own_name(n) == name] or [name] for name in _NAMES}
    for row in export_rows(config, columns, ("id", "title"), delimiter):
        item = {name: [value] for name, value in row.items() if value}
        if '"' in row["product_type"]:  # several values, of which those with commas are quoted
            item["product_type"] = next(csv.reader([row["product_type"]], skipinitialspace=True))
        yield item


def _xml_items(path: str) -> Iterator[Item]:
    with reading(path), pa.input_stream(path, compression="detect") as stream:
        try:
            for _, element in ET.iterparse(stream):
                if _own_name(element.tag) in ("item", "entry"):
                    yield _xml_item(element)
                    element.clear()
        except ET.ParseError as error:
            raise InputError(path, f"broken XML ({error})", "a feed as RSS or Atom") from error


def _xml_item(element: ET.Element) -> Item:
    """Returns Google's elements of an item, and others where Google's are not given."""
    items: tuple[Item, Item] = {}, {}
    for child in element:
        item = items["base.google.com" in child.tag]
        text = " ".join("".join(child.itertext()).split())
        item.setdefault(_own_name(child.tag), []).append(text)
    return items[0] | items[1]


def _own_name(name: str) -> str:
    """Returns "product_type" for "Produkttyp [product_type]", "g:product type" and the like."""
    name = re.sub(r"^\{.*\}|^g:|.*\[|\].*", "", name.strip().lower())
    return name.strip().replace(" ", "_")
