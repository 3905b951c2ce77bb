"""Amazon's Shopping Queries data (ESCI) of section 4.1, for tensorflow_datasets."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import ClassVar

import tensorflow_datasets as tfds
from absl import logging

from catid2_jax.data.catalog import read_catalog
from catid2_jax.data.sources.esci import LOCALES, EsciConfig, preprocess_dataset, read_esci
from catid2_jax.data.queries import read_queries
from catid2_jax.data.sources.dataset import CATALOG, write_dataset
from catid2_jax.data.tfds import examples
from catid2_jax.types import Product

PRODUCTS = "shopping_queries_dataset_products.parquet"
EXAMPLES = "shopping_queries_dataset_examples.parquet"
METADATA = "esci.json.zst"

_CITATION = """@article{reddy2022shopping,
  title={Shopping Queries Dataset: A Large-Scale {ESCI} Benchmark for Improving Product Search},
  author={Chandan K. Reddy and Lluís Màrquez and Fran Valero and Nikhil Rao and Hugo Zaragoza and
          Sambaran Bandyopadhyay and Arnab Biswas and Anlu Xing and Karthik Subbian},
  year={2022}, eprint={2206.06588}, archivePrefix={arXiv}
}"""


class Esci(tfds.core.GeneratorBasedBuilder):
    """ESCI with the category paths of ESCI-S, after the paper's preprocessing.

    The choices that the paper leaves open are `EsciConfig`'s defaults, and the numbers of examples
    stand beside Table 1 in what `import_data esci` prints. For other choices import with that, and
    build with `CatalogFolder`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First."}
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name=locale, description=f"The queries and products of {locale}.")
        for locale in LOCALES
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"--manual_dir is the folder of {PRODUCTS} and {EXAMPLES} from "
        "https://github.com/amazon-science/esci-data and of "
        f"{METADATA} from https://github.com/shuttie/esci-s."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Difficult shopping queries with judgements on Amazon's products.",
            features=examples.features(),
            homepage="https://github.com/amazon-science/esci-data",
            citation=_CITATION,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, examples.Examples]:
        manual = pathlib.Path(dl_manager.manual_dir)
        compare_with_checksums(manual, self.url_infos)
        config = EsciConfig(
            products=str(manual / PRODUCTS),
            examples=str(manual / EXAMPLES),
            metadata=str(manual / METADATA),
            locales=(self.builder_config.name,),
        )
        # As long as the builder is there: the examples are read from it split by split.
        self._imported = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self._imported.name)
        for source in read_esci(config):
            write_dataset(dataclasses.replace(source, name=""), folder)
        return _preprocessed_examples(folder)

    def _generate_examples(self, found: examples.Examples) -> examples.Examples:
        return found


def compare_with_checksums(
    manual: pathlib.Path, published: Mapping[str, tfds.download.checksums.UrlInfo]
) -> None:
    """Warns of files that are not those published, by size and digest.

    It is no error: Amazon may publish a newer version, and a part of the files is often enough.

    Args:
        manual: folder of the files.
        published: url -> size, SHA-256 and name of the file, as in checksums.tsv. ESCI-S
            publishes no digest.
    """
    for known in published.values():
        path = manual / known.filename
        if path.exists() and tfds.download.checksums.compute_url_info(path) != known:
            logging.warning("%s: is not the file that was published (checksums.tsv)", path)


def _preprocessed_examples(folder: pathlib.Path) -> dict[str, examples.Examples]:
    """Split -> its examples, of what the paper's preprocessing leaves of an imported data set."""
    paths, _, kept = preprocess_dataset(folder)

    def products() -> Iterator[Product]:
        for product in read_catalog(folder / CATALOG):
            if product.id in paths:
                yield dataclasses.replace(product, categories=paths[product.id])

    found = {examples.CATALOG: examples.product_examples(products())}
    for split, qrels in kept.items():
        if qrels:
            queries = read_queries(folder / f"queries.{split}.jsonl")
            found[split] = examples.query_examples(queries, qrels)
    return found
