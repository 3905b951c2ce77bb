"""Any catalogue with queries and judgements in the project's files, for tensorflow_datasets."""

import pathlib
from typing import ClassVar

import tensorflow_datasets as tfds

from catid2_jax.data.catalog import read_catalog
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.data.tfds import examples
from catid2_jax.errors import InputError

_CATALOGS = ("catalog.parquet", "catalog.jsonl", "catalog.jsonl.gz")


class CatalogFolder(tfds.core.GeneratorBasedBuilder):
    """A folder as `import_data` leaves it, or `data/` of a work directory; nothing is left out.

    A configuration is a name for the data set and nothing else, so that several can stand in one
    `data_dir`: tfds build .../catalog_folder.py --config='{"name": "shop"}' --manual_dir=FOLDER.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First."}
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name="default")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"--manual_dir is the folder of one of {', '.join(_CATALOGS)} and of queries.SPLIT.jsonl "
        "and qrels.SPLIT.txt for some of the splits train, dev and test."
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
    """Split -> its examples: `catalog`, and those whose queries the folder has.

    Raises:
        InputError: no catalogue or several, or what the readers raise; a judgement of a query or
            on a product that is not there is an error.
    """
    there = [name for name in _CATALOGS if (folder / name).exists()]
    if len(there) != 1:
        raise InputError(
            f"{folder}: found {' and '.join(there) or 'no catalogue'}, expected one of "
            f"{', '.join(_CATALOGS)}"
        )
    products = read_catalog(folder / there[0])
    ids = {product.id for product in products}
    found = {examples.CATALOG: examples.product_examples(products)}
    for name, split in examples.SPLITS.items():
        if (folder / f"queries.{split}.jsonl").exists():
            queries = read_queries(folder / f"queries.{split}.jsonl")
            known = {query.id for query in queries}
            qrels = read_qrels(folder / f"qrels.{split}.txt", known, ids)
            found[name] = examples.query_examples(queries, qrels)
    return found
