"""Reads the item metadata of Amazon Reviews 2023 (amazon-reviews-2023.github.io)."""

import dataclasses
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from catid2_jax.constraints import LocalPath
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
    """The published metadata, which comes without queries.

    Attributes:
        path: a file meta_CATEGORY.jsonl.gz or .jsonl, or a folder; all such files below it are
            read, sorted by path.
        judgements: .parquet, .csv or .tsv file with the columns that `split_judgements` names;
            empty for none.
        judgements_delimiter: one character, or "tab"; empty finds it in the file's header.
        judgements_encoding: the encoding of the file of judgements; empty for UTF-8.
    """

    path: LocalPath
    judgements: LocalPath = ""
    judgements_delimiter: str = ""
    judgements_encoding: str = ""


def read_amazon_reviews(config: AmazonReviewsConfig) -> list[Source]:
    """Reads the metadata; of `details` it keeps the brand, colour and material.

    Some published files (All_Beauty is one) have empty category lists, and products without a
    category are left out, so nothing of these files is imported.
    """
    told = config.judgements_delimiter, config.judgements_encoding
    judgements = read_judgements(config.judgements, *told) if config.judgements else ()
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
