"""Reads Amazon's Shopping Queries data (ESCI) with category paths from ESCI-S, section 4.1.

Two publications are read:

- github.com/amazon-science/esci-data: `shopping_queries_dataset_products.parquet` with the columns
  `_PRODUCT_COLUMNS` and `shopping_queries_dataset_examples.parquet` with `_EXAMPLE_COLUMNS`. Every
  text of a product may be null; labels are E, S, C and I; a product has one row per
  `product_locale` (us, es, jp).
- github.com/shuttie/esci-s: `esci.json.zst`, JSON Lines with, among others, `type` (product, book,
  or error for a page that could not be read, which has no further fields), `asin` (ESCI's
  product_id), `locale` and `category` (list of names, root first). It covers 91.5 % of ESCI's
  products.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from rich.table import Table

from catid2_jax.constraints import LocalPath
from catid2_jax.data.preprocessing import (
    PreprocessingConfig,
    PreprocessingCounts,
    count_judgements,
    keep_documents,
    keep_grades,
    preprocess_heldout,
    preprocess_products,
    preprocess_training,
)
from catid2_jax.data.queries import read_qrels, relevant_grades
from catid2_jax.data.sources.conversion import as_ids, as_text
from catid2_jax.data.sources.dataset import CATALOG, Source
from catid2_jax.data.sources.reading import json_batches, parquet_batches
from catid2_jax.data.statistics import dataset_statistics
from catid2_jax.errors import InputError
from catid2_jax.types import GRADES, Product, Qrels

LOCALES = ("us", "es", "jp")

TABLE_1 = {
    "us": (386_392, 20_001, 341_460, 5_800, 29_351),
    "es": (131_935, 5_350, 121_297, 1_612, 12_176),
    "jp": (152_845, 6_458, 139_508, 1_832, 14_353),
}
"""The paper's counts by locale: documents, training queries and pairs, test queries and pairs."""

_PRODUCT_COLUMNS = {
    "product_id": "id",
    "product_title": "title",
    "product_description": "description",
    "product_bullet_point": "bullet points",
    "product_brand": "brand",
    "product_color": "color",
}
"""Published name -> name in a `Source`, which is also the label in the product's text."""

_EXAMPLE_COLUMNS = {
    "query_id": "query_id",
    "query": "query",
    "product_id": "product_id",
    "esci_label": "label",
    "split": "split",
}

_PAPER_PREPROCESSING = PreprocessingConfig()

_METADATA = pa.schema(
    [
        ("asin", pa.string()),
        ("locale", pa.string()),
        ("type", pa.string()),
        ("category", pa.list_(pa.string())),
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EsciConfig:
    """The published files, and the choices that the paper does not state.

    Attributes:
        products: path of shopping_queries_dataset_products.parquet.
        examples: path of shopping_queries_dataset_examples.parquet.
        metadata: path of ESCI-S's esci.json.zst, which may also be .gz or uncompressed.
        locales: locales to read, out of us, es and jp; each becomes a data set of its own.
        version: "small" for ESCI's subset of difficult queries, "large" for all queries. The
            paper's 20,001, 5,350 and 6,458 training queries (us, es, jp) fit the small version's
            20,888, 5,632 and 7,284, and not the large one's 74,888, 11,336 and 13,460.
        document_splits: splits whose judged products become documents. The default is both: the
            small version has 419,653 us training pairs and ESCI-S covers 91.5 % of the products,
            so training alone can hardly yield the paper's 386,392 documents.
        document_labels: labels that make a judged product a document. The default is all: Table 1
            has more documents than training pairs, and a product that is irrelevant to one query
            is still part of the shop.
        metadata_types: types of ESCI-S pages to take categories from. The default includes books:
            they have categories, and the paper does not exclude them.

    Raises:
        InputError: a locale, version, split or label that ESCI does not have, or none at all.
    """

    products: LocalPath
    examples: LocalPath
    metadata: LocalPath
    locales: tuple[str, ...] = LOCALES
    version: Literal["small", "large"] = "small"
    document_splits: tuple[str, ...] = ("train", "test")
    document_labels: tuple[str, ...] = ("E", "S", "C", "I")
    metadata_types: tuple[str, ...] = ("product", "book")

    def __post_init__(self) -> None:
        for field, choices in (
            ("locales", LOCALES),
            ("document_splits", ("train", "test")),
            ("document_labels", tuple(GRADES)),
        ):
            values = getattr(self, field)
            if not values or set(values) - set(choices):
                raise InputError(field, repr(values), f"one or more of {', '.join(choices)}")
        if self.version not in ("small", "large"):
            raise InputError("version", repr(self.version), "'small' or 'large'")


def read_esci(config: EsciConfig) -> Iterator[Source]:
    """Reads one data set per locale.

    A data set has the products that an example judges, in the order of their file. Their
    categories come from ESCI-S pages of the same locale: other locales name the categories in
    another language, and mixing them would split one category tree into two.

    Raises:
        InputError: a file that is not as published (see `data/sources/reading.py`), or a locale
            without examples or without category paths.
    """
    rows_of, paths = _read_categories(config)
    for locale in config.locales:
        examples = _read_examples(config, locale)
        if not rows_of[locale]:
            raise InputError(
                config.metadata, f"no category path of locale {locale!r}", "at least one"
            )
        documents = _documents(examples, config)
        products = _read_products(config, locale, documents, rows_of[locale], paths)
        judgements = examples.rename_columns(_EXAMPLE_COLUMNS).to_batches()
        yield Source(products, judgements, locale, selected=True)


def dataset_figures(
    directory: pathlib.Path, preprocessing: PreprocessingConfig = _PAPER_PREPROCESSING
) -> dict[str, int]:
    """Counts what the paper's preprocessing keeps of an imported data set, for Table 1.

    Args:
        directory: folder of the imported files of one locale.
        preprocessing: what to keep; the paper's choices by default.

    Returns:
        `documents`, `train_queries`, `train_pairs`, `test_queries` and `test_pairs` of Table 1;
        `train_pairs_any_label` and `test_pairs_any_label` count the pairs on the kept documents
        whatever their label.
    """
    paths, judged, kept = preprocess_dataset(directory, preprocessing)
    relevant = keep_grades(kept["test"], relevant_grades(preprocessing.relevant_labels))
    pairs = {"train": kept["train"], "test": relevant}
    figures = dataset_statistics(collections.Counter(paths.values()), pairs)
    return {
        **{name: count for name, count in figures.items() if not name.startswith("categories")},
        "train_pairs_any_label": count_judgements(keep_documents(judged["train"], paths)),
        "test_pairs_any_label": count_judgements(kept["test"]),
    }


def preprocess_dataset(
    directory: pathlib.Path, preprocessing: PreprocessingConfig = _PAPER_PREPROCESSING
) -> tuple[dict[str, tuple[str, ...]], dict[str, Qrels], dict[str, Qrels]]:
    """Applies the paper's preprocessing to an imported data set.

    Args:
        directory: folder of the imported files of one locale.
        preprocessing: what to keep; the paper's choices by default.

    Returns:
        Category paths by the id of each product kept; judgements by split ("train", "test") before
        preprocessing; judgements by split after it.
    """
    counts = PreprocessingCounts()
    products = preprocess_products(_paths(directory / CATALOG), preprocessing, counts)
    paths = {product.id: product.categories for product in products}
    files = {split: directory / f"qrels.{split}.txt" for split in ("train", "test")}
    judged = {split: read_qrels(path) if path.exists() else {} for split, path in files.items()}
    training = preprocess_training(judged["train"], paths, preprocessing, counts)
    heldout = preprocess_heldout(judged["test"], training, paths, preprocessing, counts)
    return paths, judged, {"train": training, "test": heldout}


def table_1(locale: str, figures: dict[str, int]) -> Table:
    """Returns a table of `dataset_figures`, the paper's Table 1 and the difference per row.

    The paper does not say which labels its pairs have, so its number of pairs stands in two rows:
    one for relevant labels, one for any label.
    """
    documents, train_queries, train_pairs, test_queries, test_pairs = TABLE_1[locale]
    paper = {
        "documents": documents,
        "train_queries": train_queries,
        "train_pairs": train_pairs,
        "train_pairs_any_label": train_pairs,
        "test_queries": test_queries,
        "test_pairs": test_pairs,
        "test_pairs_any_label": test_pairs,
    }
    table = Table(f"Table 1, ESCI-{locale}")
    for column in ("here", "paper", "difference"):
        table.add_column(column, justify="right")
    for name, count in paper.items():
        difference = figures[name] - count
        table.add_row(
            name.replace("_", " "),
            f"{figures[name]:,}",
            f"{count:,}",
            f"{difference:+,} ({difference / count:+.1%})" if difference else "none",
        )
    return table


def _read_categories(config: EsciConfig) -> tuple[dict[str, dict[str, int]], pa.Array]:
    """Returns locale -> product -> row, and the path of each row; a product's first page counts."""
    rows_of: dict[str, dict[str, int]] = {locale: {} for locale in config.locales}
    chunks, rows = [], 0
    for batch in json_batches(config.metadata, _METADATA):
        kept = batch.filter(
            pc.and_(
                pc.is_in(batch.column("type"), pa.array(config.metadata_types)),
                pc.and_(
                    pc.is_in(batch.column("locale"), pa.array(config.locales)),
                    pc.fill_null(
                        pc.greater(pc.list_value_length(batch.column("category")), 0), False
                    ),
                ),
            )
        )
        pages = zip(kept.column("asin").to_pylist(), kept.column("locale").to_pylist(), strict=True)
        for row, (product_id, locale) in enumerate(pages, rows):
            rows_of[locale].setdefault(product_id, row)
        chunks.append(kept.column("category"))
        rows += len(kept)
    return rows_of, pa.chunked_array(chunks, _METADATA.field("category").type).combine_chunks()


def _read_examples(config: EsciConfig, locale: str) -> pa.Table:
    version = f"{config.version}_version"
    columns = (*_EXAMPLE_COLUMNS, "product_locale", version)
    kept = [
        batch.filter(
            pc.and_(
                pc.equal(batch.column("product_locale"), locale),
                pc.equal(batch.column(version), "1"),
            )
        ).select(list(_EXAMPLE_COLUMNS))
        for batch in _texts(config.examples, columns, ("query_id", "product_id", version))
    ]
    if not sum(map(len, kept)):
        raise InputError(
            config.examples, f"no example of locale {locale!r} with {version} 1", "at least one"
        )
    return pa.Table.from_batches(kept)


def _texts(path: str, columns: Sequence[str], ids: Collection[str]) -> Iterator[pa.RecordBatch]:
    """Streams columns as text, whatever their types have become on the way; `ids` as ids."""
    row = 1
    for batch in parquet_batches(path, columns):
        arrays = [
            (as_ids if name in ids else as_text)(batch.column(name), name, path, row)
            for name in columns
        ]
        row += len(batch)
        yield pa.RecordBatch.from_arrays(arrays, list(columns))


def _documents(examples: pa.Table, config: EsciConfig) -> set[str]:
    """Returns the ids of products that an example of the configured splits and labels judges."""
    for label in examples["esci_label"].unique().to_pylist():
        if label not in GRADES:
            raise InputError(
                config.examples, f"esci_label {label!r}", f"one of {', '.join(GRADES)}"
            )
    judged = pc.and_(
        pc.is_in(examples["split"], pa.array(config.document_splits)),
        pc.is_in(examples["esci_label"], pa.array(config.document_labels)),
    )
    return set(examples.filter(judged)["product_id"].to_pylist())


def _read_products(
    config: EsciConfig,
    locale: str,
    documents: set[str],
    row_of: dict[str, int],
    paths: pa.Array,
) -> Iterator[pa.RecordBatch]:
    columns = (*_PRODUCT_COLUMNS, "product_locale")
    for batch in _texts(config.products, columns, ("product_id",)):
        of_locale = batch.filter(pc.equal(batch.column("product_locale"), locale))
        judged = [product in documents for product in of_locale.column("product_id").to_pylist()]
        kept = of_locale.filter(pa.array(judged, pa.bool_())).select(list(_PRODUCT_COLUMNS))
        rows = [row_of.get(product) for product in kept.column("product_id").to_pylist()]
        yield kept.rename_columns(_PRODUCT_COLUMNS).append_column(
            "categories", paths.take(pa.array(rows, pa.int64()))
        )


def _paths(catalog: pathlib.Path) -> Iterable[Product]:
    """Yields the products with id and categories alone, which is all that the figures need."""
    for batch in parquet_batches(catalog, ("id", "categories")):
        for product_id, categories in zip(*(c.to_pylist() for c in batch.columns), strict=True):
            yield Product(product_id, "", "", tuple(categories))
