"""Reads products from a Parquet file or from a folder of shards."""

import dataclasses

from catid2_jax.constraints import LocalPath
from catid2_jax.data.sources.columns import ColumnMap, categorized_source, mapped_batches
from catid2_jax.data.sources.dataset import Source
from catid2_jax.data.sources.reading import files_of, parquet_batches


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParquetConfig(ColumnMap):
    """Parquet with columns of any name.

    Attributes:
        path: a file, or a folder; all *.parquet files below it are read, sorted by path.
    """

    path: LocalPath


def read_parquet(config: ParquetConfig) -> list[Source]:
    """Reads the shards one after the other.

    Raises:
        InputError: no shard; while iterating, a shard that lacks a column or cannot be read.
    """
    shards = files_of(config.path, "*.parquet")
    batches = (
        batch
        for shard in shards
        for batch in mapped_batches(parquet_batches(shard, config.names), config, shard)
    )
    return [categorized_source(batches, config)]
