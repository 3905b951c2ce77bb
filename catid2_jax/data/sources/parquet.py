"""Products in Parquet: a file, or a folder of shards."""

import dataclasses

from catid2_jax.data.sources.columns import ColumnMap, mapped_source
from catid2_jax.data.sources.dataset import Source
from catid2_jax.data.sources.reading import files_of, parquet_batches


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParquetConfig(ColumnMap):
    """Parquet with columns of any name.

    Attributes:
        path: a file, or a folder whose *.parquet, also in folders below, are read by name.
    """

    path: str


def read_parquet(config: ParquetConfig) -> list[Source]:
    """Reads the shards one after the other; each must have all the columns."""
    shards = files_of(config.path, "*.parquet")
    batches = (batch for shard in shards for batch in parquet_batches(shard, config.names))
    return [mapped_source(batches, config)]
