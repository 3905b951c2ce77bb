"""Builds a data set for tensorflow_datasets from many Parquet files, by a pipeline of Apache Beam.

The products are those of `import_data parquet`, on as many machines as Beam has.
"""

import dataclasses
import operator
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeAlias

import tensorflow_datasets as tfds

from catid2_jax.data.sources.dataset import ProductCounts, usable_products
from catid2_jax.data.sources.parquet import ParquetConfig, read_parquet
from catid2_jax.data.sources.reading import files_of
from catid2_jax.data.tfds import examples
from catid2_jax.types import Product

_Placed: TypeAlias = tuple[tuple[int, int], dict[str, Any]]


@dataclasses.dataclass(eq=False)
class ShardsConfig(tfds.core.BuilderConfig):
    """How the files are read.

    Attributes:
        columns: fields of `ParquetConfig` but for `path` and `judgements`. Where a column of text
            holds category paths, each file settles its form by itself unless `path_separator` does.
    """

    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class ParquetShards(tfds.core.GeneratorBasedBuilder):
    """The products of a folder of Parquet files, each file read by one worker.

    An id that comes twice keeps its first product, in the order of the files' paths. Queries and
    judgements, which are few, are read by `CatalogFolder`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First."}
    BUILDER_CONFIGS: ClassVar[list[ShardsConfig]] = [ShardsConfig(name="default")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The manual directory must hold .parquet files of products."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="A catalogue of products.",
            features=examples.features(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        shards = files_of(dl_manager.manual_dir, "*.parquet")
        return {examples.CATALOG: self._generate_examples(shards)}

    def _generate_examples(self, shards: Iterable[pathlib.Path]) -> Any:
        import apache_beam as beam

        return (
            beam.Create(list(enumerate(map(str, shards))))
            | beam.Reshuffle()
            | beam.FlatMap(_placed_examples, columns=dict(self.builder_config.columns))
            | beam.GroupByKey()
            | beam.MapTuple(_first)
        )


def _placed_examples(
    file: tuple[int, str], columns: Mapping[str, Any]
) -> Iterator[tuple[str, _Placed]]:
    """Yields (product id, (number of the file and row, example)) of a file."""
    shard, path = file
    fields: dict[str, Any] = {  # JSON has lists
        name: tuple(value) if isinstance(value, list) else value for name, value in columns.items()
    }
    (source,) = read_parquet(ParquetConfig(path=path, **fields))
    batches = usable_products(source.products, set(), set(), 0, ProductCounts())
    products = (
        Product(row["id"], row["title"], row["text"] or "", tuple(row["categories"]))
        for batch in batches
        for row in batch.to_pylist()
    )
    for row, (product_id, example) in enumerate(examples.product_examples(products)):
        yield product_id, ((shard, row), example)


def _first(product_id: str, found: Iterable[_Placed]) -> tuple[str, dict[str, Any]]:
    return product_id, min(found, key=operator.itemgetter(0))[1]
