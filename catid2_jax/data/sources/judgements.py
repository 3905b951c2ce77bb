"""Reads judgements of query-product pairs and converts their labels and splits to our own."""

import dataclasses
import itertools
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catid2_jax.data.sources.conversion import as_ids, as_text
from catid2_jax.data.sources.reading import (
    csv_batches,
    header_delimiter,
    is_utf8,
    parquet_batches,
)
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


def read_judgements(
    path: str, delimiter: str = "", encoding: str = "", products_encoding: str = "utf-8"
) -> Iterable[pa.RecordBatch]:
    """Reads a file of judgements as batches for `split_judgements`.

    Args:
        path: .parquet, .csv or .tsv file; the last two may be compressed (.gz, .zst).
        delimiter: one character, or "tab"; empty for the one of the header.
        encoding: the file's encoding under Python's name for it; empty for UTF-8 or, if the file
            is not UTF-8, that of the products.
        products_encoding: see there.

    Raises:
        InputError: another suffix, or any error of `parquet_batches` or `csv_batches`.
    """
    plain = path.removesuffix(".gz").removesuffix(".zst")
    if path.endswith(".parquet"):
        return parquet_batches(path, COLUMNS, optional=("split",))
    if plain.endswith((".csv", ".tsv")):
        usual = "," if plain.endswith(".csv") else "\t"
        told = "\t" if delimiter == "tab" else delimiter
        if len(told) > 1:
            raise InputError("judgements_delimiter", repr(told), "one character or 'tab'")
        delimiter = told or header_delimiter(path, COLUMNS) or usual
        if not encoding:
            encoding = "utf-8" if is_utf8(path) else products_encoding
        return csv_batches(path, COLUMNS, delimiter, encoding, optional=("split",))
    raise InputError(path, "another suffix", "one of .parquet, .csv, .tsv")


def split_judgements(
    batches: Iterable[pa.RecordBatch],
    document_ids: Collection[str],
    test_share: float,
    counts: JudgementCounts,
    left_out: Collection[str] | None = None,
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
        left_out: ids of products that the source has and the catalogue has not. With it, less than
            half of the judgements on products of the source are an error, since then the two most
            likely write their ids differently; None for any share.

    Returns:
        Split -> its queries and their grades, in the order of the batches. Splits without a
        judgement are absent.

    Raises:
        InputError: an unknown label or split, an id that `as_ids` refuses, two texts for one query
            of a split, or too few judgements on products (with examples of both sides).
    """
    queries: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    qrels: dict[str, Qrels] = {split: {} for split in SPLITS}
    strangers: list[str | None] = []  # for each judgement on no product of the source
    for query_id, text, product_id, label, split in _judgements(batches, test_share):
        if label not in GRADE_OF_LABEL or split not in qrels:
            _refuse(label, split)
        if not query_id or not text:
            counts.without_query += 1
        elif product_id not in document_ids:
            counts.on_products_left_out += 1
            if left_out is not None and product_id not in left_out:
                strangers.append(product_id)
        elif product_id in qrels[split].setdefault(query_id, {}):
            counts.repeated += 1
        else:
            counts.judgements += 1
            qrels[split][query_id][product_id] = GRADE_OF_LABEL[label]
            _check_text(query_id, queries[split].setdefault(query_id, text), text)
    _check_strangers(strangers, document_ids, counts)
    return {
        split: ([Query(*query) for query in queries[split].items()], qrels[split])
        for split in SPLITS
        if qrels[split]
    }


def _judgements(batches: Iterable[pa.RecordBatch], test_share: float) -> Iterator[tuple[Any, ...]]:
    """Yields (query id, query, product id, label, split), converted and cleaned."""
    row = 1
    for batch in batches:

        def text(name: str, batch: pa.RecordBatch = batch, row: int = row) -> pa.Array:
            return as_text(batch.column(name), name, "judgements", row)

        def ids(name: str, batch: pa.RecordBatch = batch, row: int = row) -> list[str | None]:
            return as_ids(batch.column(name), name, "judgements", row).to_pylist()

        query_ids = ids("query_id")
        if "split" in batch.schema.names:
            splits = pc.utf8_trim_whitespace(text("split")).to_pylist()
        else:
            splits = [_split_of(query_id, test_share) for query_id in query_ids]
        labels = pc.utf8_trim_whitespace(text("label")).to_pylist()
        queries = _clean_queries(text("query"))
        row += len(batch)
        yield from zip(query_ids, queries, ids("product_id"), labels, splits, strict=True)


def _check_strangers(
    strangers: Sequence[str | None], document_ids: Collection[str], counts: JudgementCounts
) -> None:
    """Raises InputError if less than half of the judgements are on products of the source."""
    total = counts.judgements + counts.repeated + counts.on_products_left_out
    if 2 * len(strangers) > total:
        theirs, ours = (
            ", ".join(repr(name) for name in itertools.islice(dict.fromkeys(names), 3))
            for names in (strangers, document_ids)
        )
        raise InputError(
            "judgements",
            f"{len(strangers):,} of {total:,} on no product of the source, such as {theirs}",
            f"ids of its products, such as {ours}",
        )


def _clean_queries(column: pa.Array) -> list[str | None]:
    """Cleans each distinct text once, however many judgements it has; None where it is empty."""
    texts = pc.dictionary_encode(column)
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
