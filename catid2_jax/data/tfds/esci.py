"""Builds Amazon's Shopping Queries data (ESCI), section 4.1, for tensorflow_datasets."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import ClassVar

import tensorflow_datasets as tfds
from absl import logging

from catid2_jax.data.catalog import stream_products
from catid2_jax.data.queries import read_queries
from catid2_jax.data.sources.dataset import CATALOG, write_dataset
from catid2_jax.data.sources.esci import LOCALES, EsciConfig, preprocess_dataset, read_esci
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

    Choices that the paper leaves open follow the defaults of `EsciConfig`; `import_data esci`
    compares the resulting numbers of examples with Table 1. For other choices, import the data
    with `import_data` and build them with `CatalogFolder`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First."}
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name=locale, description=f"The queries and products of {locale}.")
        for locale in LOCALES
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"The manual directory must hold {PRODUCTS} and {EXAMPLES} from "
        f"https://github.com/amazon-science/esci-data, and {METADATA} from "
        "https://github.com/shuttie/esci-s."
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
        # The folder must live as long as the builder, which reads its examples split by split.
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
    """Warns of files whose size or digest differs from the published one.

    A difference is no error: Amazon may publish a newer version, and some users build from a part
    of the files.

    Args:
        manual: folder of the files.
        published: URL -> size, SHA-256 and name of the file, read from checksums.tsv. ESCI-S is
            absent because it publishes no digest.
    """
    for known in published.values():
        path = manual / known.filename
        if path.exists() and tfds.download.checksums.compute_url_info(path) != known:
            logging.warning("%s: differs from the published file (see checksums.tsv)", path)


def _preprocessed_examples(folder: pathlib.Path) -> dict[str, examples.Examples]:
    """Returns split -> examples of an imported data set after the paper's preprocessing."""
    paths, _, kept = preprocess_dataset(folder)

    def products() -> Iterator[Product]:
        for product in stream_products(folder / CATALOG):
            if product.id in paths:
                yield dataclasses.replace(product, categories=paths[product.id])

    found = {examples.CATALOG: examples.product_examples(products())}
    for split, qrels in kept.items():
        if qrels:
            queries = read_queries(folder / f"queries.{split}.jsonl")
            found[split] = examples.query_examples(queries, qrels)
    return found
