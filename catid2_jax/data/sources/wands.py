"""Reads Wayfair's WANDS: furniture, queries and judgements (github.com/wayfair/WANDS)."""

import dataclasses
import pathlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from catid2_jax.constraints import LocalPath
from catid2_jax.data.sources.dataset import Source
from catid2_jax.data.sources.reading import csv_batches, require_columns
from catid2_jax.errors import InputError

_HIERARCHY = ("category hierarchy", "category_hierarchy")  # in the file; in its README
_PRODUCT_COLUMNS = {
    "product_id": "id",
    "product_name": "title",
    "product_class": "class",
    "product_description": "description",
    "product_features": "features",
}
# A partial match, like ESCI's substitute, lacks something that was asked for.
_LABELS = {"Exact": "E", "Partial": "S", "Irrelevant": "I"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WandsConfig:
    """The published files.

    Attributes:
        path: folder of product.csv, query.csv and label.csv, all tab-separated.
    """

    path: LocalPath


def read_wands(config: WandsConfig) -> list[Source]:
    """Reads WANDS, which has no splits: `split_judgements` divides its queries by their ids.

    Raises:
        InputError: while iterating, at a file that is not as published, or an unknown label or
            query.
    """
    folder = pathlib.Path(config.path)
    return [Source(_read_products(folder / "product.csv"), _read_labels(folder))]


def _read_products(path: pathlib.Path) -> Iterator[pa.RecordBatch]:
    for batch in csv_batches(path, tuple(_PRODUCT_COLUMNS), "\t", optional=_HIERARCHY):
        names = batch.schema.names
        hierarchy = next((name for name in _HIERARCHY if name in names), _HIERARCHY[0])
        require_columns([hierarchy], names, path)
        features = pc.replace_substring(batch.column("product_features"), "|", ", ")
        place = names.index("product_features")
        batch = batch.set_column(place, "product_features", features)
        yield (
            batch.select(list(_PRODUCT_COLUMNS))
            .rename_columns(_PRODUCT_COLUMNS)
            .append_column("categories", pc.split_pattern(batch.column(hierarchy), " / "))
        )


def _read_labels(folder: pathlib.Path) -> Iterator[pa.RecordBatch]:
    texts: dict[str, str] = {}
    for batch in csv_batches(folder / "query.csv", ("query_id", "query"), "\t"):
        texts.update(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    path = folder / "label.csv"
    for batch in csv_batches(path, ("query_id", "product_id", "label"), "\t"):
        queries, products, labels = (column.to_pylist() for column in batch.columns)
        for found, known, what, expected in (
            (queries, texts, "query", "one of query.csv"),
            (labels, _LABELS, "label", f"one of {', '.join(_LABELS)}"),
        ):
            unknown = next((value for value in found if value not in known), None)
            if unknown is not None:
                raise InputError(path, f"{what} {unknown!r}", expected)
        yield pa.RecordBatch.from_pydict(
            {
                "query_id": queries,
                "query": [texts[query] for query in queries],
                "product_id": products,
                "label": [_LABELS[label] for label in labels],
            }
        )
