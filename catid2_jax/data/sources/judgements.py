"""Reads judgements of query-product pairs and converts their labels and splits to our own."""

import dataclasses
import zlib
from collections.abc import Collection, Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from catid2_jax.data.lines import parse_id
from catid2_jax.data.sources.reading import csv_batches, parquet_batches
from catid2_jax.data.text import clean
from catid2_jax.errors import InputError
from catid2_jax.types import GRADES, Qrels, Query

COLUMNS = ("query_id", "query", "product_id", "label")
SPLITS = ("train", "dev", "test")

GRADE_OF_LABEL: Mapping[str, int] = {
    **GRADES,
    "Exact": 3,
    "Substitute": 2,
    "Complement": 1,
    "Irrelevant": 0,
    **{str(grade): grade for grade in GRADES.values()},
}


@dataclasses.dataclass
class JudgementCounts:
    """How many judgements were written and left out, and why.

    Attributes:
        judgements: judgements written.
        without_query: judgements left out because the query has no id or no text.
        on_products_left_out: judgements left out because the catalogue written lacks the product.
        repeated: judgements left out because an earlier one of the split has the same pair.
    """

    judgements: int = 0
    without_query: int = 0
    on_products_left_out: int = 0
    repeated: int = 0


def read_judgements(path: str) -> Iterable[pa.RecordBatch]:
    """Reads a file of judgements as batches for `split_judgements`.

    Args:
        path: .parquet, .csv or .tsv file; the last two may be compressed (.gz, .zst).

    Raises:
        InputError: another suffix, or any error of `parquet_batches` or `csv_batches`.
    """
    plain = path.removesuffix(".gz").removesuffix(".zst")
    if path.endswith(".parquet"):
        return parquet_batches(path, COLUMNS, optional=("split",))
    if plain.endswith((".csv", ".tsv")):
        delimiter = "," if plain.endswith(".csv") else "\t"
        return csv_batches(path, COLUMNS, delimiter, optional=("split",))
    raise InputError(path, "another suffix", "one of .parquet, .csv, .tsv")


def split_judgements(
    batches: Iterable[pa.RecordBatch],
    document_ids: Collection[str],
    test_share: float,
    counts: JudgementCounts,
) -> dict[str, tuple[list[Query], Qrels]]:
    """Converts labels to grades and divides the judgements by split.

    Args:
        batches: judgements with the columns `query_id`, `query`, `product_id`, `label` (ESCI's
            letters or words, or 3 to 0) and optionally `split` (train, dev or test).
        document_ids: ids of the catalogue's products.
        test_share: fraction of the queries for the test where there is no column `split`; the
            others are for training. The choice depends on the query's id alone, so it is the same
            in every run.
        counts: counts of judgements written and left out; they are increased.

    Returns:
        Split -> its queries and their grades, in the order of the batches. Splits without a
        judgement are absent.

    Raises:
        InputError: an unknown label or split, an id with white space, or two texts for one query
            of a split.
    """
    queries: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    qrels: dict[str, Qrels] = {split: {} for split in SPLITS}
    for batch in batches:
        columns = [pc.cast(batch.column(name), pa.string()).to_pylist() for name in COLUMNS]
        columns[1] = _clean_queries(batch.column("query"))
        if "split" in batch.schema.names:
            splits = batch.column("split").to_pylist()
        else:
            splits = [_split_of(query_id, test_share) for query_id in columns[0]]
        for query_id, text, product_id, label, split in zip(*columns, splits, strict=True):
            if label not in GRADE_OF_LABEL or split not in qrels:
                _refuse(label, split)
            if not query_id or not text:
                counts.without_query += 1
            elif product_id not in document_ids:
                counts.on_products_left_out += 1
            elif product_id in qrels[split].setdefault(query_id, {}):
                counts.repeated += 1
            else:
                counts.judgements += 1
                if not qrels[split][query_id]:
                    parse_id(query_id, "judgements")
                qrels[split][query_id][product_id] = GRADE_OF_LABEL[label]
                _check_text(query_id, queries[split].setdefault(query_id, text), text)
    return {
        split: ([Query(*query) for query in queries[split].items()], qrels[split])
        for split in SPLITS
        if qrels[split]
    }


def _clean_queries(column: pa.Array) -> list[str | None]:
    """Cleans each distinct text once, however many judgements it has; None where it is empty."""
    texts = pc.dictionary_encode(pc.cast(column, pa.string()))
    return clean(texts.dictionary).take(texts.indices).to_pylist()


def _split_of(query_id: str | None, test_share: float) -> str:
    return "test" if zlib.crc32((query_id or "").encode()) < test_share * 2**32 else "train"


def _check_text(query_id: str, known: str, text: str) -> None:
    if known != text:
        raise InputError(
            "judgements",
            f"the texts {known!r:.60} and {text!r:.60} for query {query_id!r}",
            "one text per query",
        )


def _refuse(label: str | None, split: str | None) -> None:
    if label not in GRADE_OF_LABEL:
        names = ", ".join(GRADE_OF_LABEL)
        raise InputError("judgements", f"label {label!r}", f"one of {names}")
    raise InputError("judgements", f"split {split!r}", f"one of {', '.join(SPLITS)}")
