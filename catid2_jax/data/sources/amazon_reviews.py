"""Item metadata of Amazon Reviews 2023 (amazon-reviews-2023.github.io)."""

import dataclasses
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from catid2_jax.data.sources.dataset import Source
from catid2_jax.data.sources.judgements import read_judgements
from catid2_jax.data.sources.reading import files_of, json_batches

_DETAILS = ("Brand", "Color", "Material")
_METADATA = pa.schema(
    [
        ("parent_asin", pa.string()),
        ("title", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("description", pa.list_(pa.string())),
        ("features", pa.list_(pa.string())),
        ("store", pa.string()),
        ("details", pa.struct([(name, pa.string()) for name in _DETAILS])),
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AmazonReviewsConfig:
    """Metadata as published; it has no queries.

    Attributes:
        path: meta_CATEGORY.jsonl.gz or .jsonl, or a folder whose files of such names are all read.
        judgements: .parquet, .csv or .tsv; see `split_judgements`. Empty for none.
    """

    path: str
    judgements: str = ""


def read_amazon_reviews(config: AmazonReviewsConfig) -> list[Source]:
    """Reads metadata: of `details`, the brand, colour and material.

    Some categories, All_Beauty for one, have empty category lists: nothing is left of those.
    """
    judgements = read_judgements(config.judgements) if config.judgements else ()
    return [Source(_read_products(config.path), judgements)]


def _read_products(path: str) -> Iterator[pa.RecordBatch]:
    for file in files_of(path, "meta_*.jsonl*"):
        for batch in json_batches(file, _METADATA):
            details = batch.column("details")
            columns = {
                "id": batch.column("parent_asin"),
                **{name: batch.column(name) for name in ("title", "categories", "description")},
                "features": batch.column("features"),
                "store": batch.column("store"),
                **{name.lower(): pc.struct_field(details, name) for name in _DETAILS},
            }
            yield pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
