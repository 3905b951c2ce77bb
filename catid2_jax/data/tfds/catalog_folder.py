"""Builds a data set for tensorflow_datasets from any catalogue in the project's own format."""

import pathlib
from typing import ClassVar

import tensorflow_datasets as tfds

from catid2_jax.data.catalog import stream_products
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.data.tfds import examples
from catid2_jax.errors import InputError

_CATALOGS = ("catalog.parquet", "catalog.jsonl", "catalog.jsonl.gz")


class CatalogFolder(tfds.core.GeneratorBasedBuilder):
    """All examples of a folder that `import_data` wrote, or of `data/` in a work directory.

    A configuration only names the data set, so that one `data_dir` can hold several:
    tfds build .../catalog_folder.py --config='{"name": "shop"}' --manual_dir=FOLDER.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First."}
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name="default")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"The manual directory must hold one of {', '.join(_CATALOGS)}, and queries.SPLIT.jsonl "
        "with qrels.SPLIT.txt for some of the splits train, dev and test."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="A catalogue of products, and queries with judgements on them.",
            features=examples.features(),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, examples.Examples]:
        return folder_examples(pathlib.Path(dl_manager.manual_dir))

    def _generate_examples(self, found: examples.Examples) -> examples.Examples:
        return found


def folder_examples(folder: pathlib.Path) -> dict[str, examples.Examples]:
    """Reads the examples of a folder.

    Args:
        folder: folder of one catalogue, and of queries and judgements of some splits.

    Returns:
        Split -> examples: `catalog`, and each split with a file of queries.

    Raises:
        InputError: no catalogue or several, a judgement of an unknown query or on an unknown
            product, or any other error of the readers.
    """
    there = [name for name in _CATALOGS if (folder / name).exists()]
    if len(there) != 1:
        raise InputError(
            folder, " and ".join(there) or "no catalogue", f"one of {', '.join(_CATALOGS)}"
        )
    products = stream_products(folder / there[0])
    ids = {product.id for product in products}
    found = {examples.CATALOG: examples.product_examples(products)}
    for name, split in examples.SPLITS.items():
        if (folder / f"queries.{split}.jsonl").exists():
            queries = read_queries(folder / f"queries.{split}.jsonl")
            known = {query.id for query in queries}
            qrels = read_qrels(folder / f"qrels.{split}.txt", known, ids)
            found[name] = examples.query_examples(queries, qrels)
    return found
