"""What every reader returns, and how it is written in the project's own format."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from catid2_jax.data.queries import write_qrels, write_queries
from catid2_jax.data.sources.judgements import SPLITS, JudgementCounts, split_judgements
from catid2_jax.data.text import clean, labelled_text
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_folder, atomic_write
from catid2_jax.progress import console

CATALOG = "catalog.parquet"
_NAMES = (CATALOG, *(name for s in SPLITS for name in (f"queries.{s}.jsonl", f"qrels.{s}.txt")))
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("categories", pa.list_(pa.string())),
    ]
)


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as published, under known column names.

    Attributes:
        products: batches with the columns `id`, `title`, `categories` (list of names, root first)
            and any others, which make up the product's text: the name of each is its label there.
        judgements: batches with the columns `query_id`, `query`, `product_id`, `label` and
            optionally `split`; `split_judgements` says which values they take.
        name: subfolder for the files, if a reader returns several sources; empty for none.
    """

    products: Iterable[pa.RecordBatch]
    judgements: Iterable[pa.RecordBatch] = ()
    name: str = ""


@dataclasses.dataclass(frozen=True)
class WritingConfig:
    """Options of writing, the same for every source.

    Attributes:
        max_characters: longest value of a text field, in characters; longer ones are cut and
            counted. 0 keeps all whole.
        test_share: fraction of the queries that become the test split if the source has no splits.

    Raises:
        InputError: negative `max_characters`, or `test_share` outside 0 to 1.
    """

    max_characters: int = 0
    test_share: float = 0.2

    def __post_init__(self) -> None:
        if self.max_characters < 0:
            raise InputError("max_characters", self.max_characters, "at least 0")
        if not 0 <= self.test_share <= 1:
            raise InputError("test_share", self.test_share, "a fraction from 0 to 1")


@dataclasses.dataclass
class ProductCounts:
    """How many products were written and left out, and why.

    Attributes:
        products: products written.
        without_id: products left out because they have no id.
        without_title: products left out because their title is empty once cleaned.
        without_category: products left out because they have no category path.
        repeated: products left out because an earlier one was written under the same id.
        values_cut: values of text fields that were cut to the longest allowed.
    """

    products: int = 0
    without_id: int = 0
    without_title: int = 0
    without_category: int = 0
    repeated: int = 0
    values_cut: int = 0


def write_dataset(
    source: Source, directory: pathlib.Path, config: WritingConfig = WritingConfig()
) -> tuple[ProductCounts, JudgementCounts]:
    """Writes `catalog.parquet` and, per split, `queries.SPLIT.jsonl` and `qrels.SPLIT.txt`.

    Every text is cleaned by `data/text.py`. Category paths are kept whole and all grades are kept:
    restricting them as the paper does is left to preprocessing. Products are streamed. The files
    take the place of those of an earlier import all at once; what else lies there stays.

    Args:
        source: the data set.
        directory: folder for the files, which go into its subfolder `source.name`.
        config: how to cut and split.

    Returns:
        The counts of products and of judgements.

    Raises:
        InputError: an id with white space, no usable product, or any error of the source's reader
            or of `split_judgements`.
    """
    counts, judgements = ProductCounts(), JudgementCounts()
    seen: set[str] = set()
    with atomic_folder(directory / source.name, _NAMES) as folder:
        with (
            atomic_write(folder / CATALOG, "wb") as file,
            pa.parquet.ParquetWriter(file, SCHEMA, compression="zstd") as writer,
        ):
            for batch in _usable_products(source.products, seen, config.max_characters, counts):
                writer.write_batch(batch)
            if not seen:
                raise InputError("products", f"none to keep ({_listed(counts)})", "at least one")
        splits = split_judgements(source.judgements, seen, config.test_share, judgements)
        for split, (queries, qrels) in splits.items():
            write_queries(folder / f"queries.{split}.jsonl", queries)
            write_qrels(folder / f"qrels.{split}.txt", qrels)
    return counts, judgements


def report(directory: pathlib.Path, counts: ProductCounts, judgements: JudgementCounts) -> None:
    """Prints how much was written to `directory`, left out and cut."""
    console.print(f"{directory}: {_listed(counts)}")
    if any(dataclasses.astuple(judgements)):
        console.print(f"  {_listed(judgements)}")


def clean_paths(paths: pa.Array) -> pa.Array:
    """Cleans the names of category paths and drops those that are empty once cleaned.

    Args:
        paths: category paths, list<string> [rows].

    Returns:
        The cleaned paths, list<string> [rows]; an empty list where the row was null.
    """
    lengths = pc.fill_null(pc.list_value_length(paths), 0).to_numpy()
    # A catalogue has few distinct names: each is cleaned once.
    names = pc.dictionary_encode(pc.list_flatten(paths).cast(pa.string()))
    names = clean(names.dictionary).take(names.indices)
    kept = np.concatenate([[0], np.cumsum(names.is_valid().to_numpy(zero_copy_only=False))])
    offsets = kept[np.concatenate([[0], np.cumsum(lengths)])]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names.drop_null())


def _usable_products(
    batches: Iterable[pa.RecordBatch], seen: set[str], max_characters: int, counts: ProductCounts
) -> Iterator[pa.RecordBatch]:
    """Yields batches with SCHEMA and adds their ids to `seen`."""
    for batch in batches:
        ids = _clean_ids(batch.column("id"))
        titles = clean(batch.column("title"))
        paths = clean_paths(batch.column("categories"))
        rows = pa.array(_usable_rows(ids, titles, paths, seen, counts), pa.int64())
        fields = {
            name: clean(batch.column(name).take(rows))
            for name in batch.schema.names
            if name not in ("id", "title", "categories")
        }
        text, cut = labelled_text(fields, len(rows), max_characters)
        counts.values_cut += cut
        counts.products += len(rows)
        columns = [ids.take(rows), titles.take(rows), text, paths.take(rows)]
        yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _usable_rows(
    ids: pa.Array, titles: pa.Array, paths: pa.Array, seen: set[str], counts: ProductCounts
) -> list[int]:
    usable = np.ones(len(ids), dtype=bool)
    for what, there in (
        ("without_id", ids.is_valid()),
        ("without_title", titles.is_valid()),
        ("without_category", pc.greater(pc.list_value_length(paths), 0)),
    ):
        missing = usable & ~there.to_numpy(zero_copy_only=False)
        setattr(counts, what, getattr(counts, what) + int(missing.sum()))
        usable &= ~missing
    rows = []
    candidates = np.flatnonzero(usable).tolist()
    for row, product_id in zip(
        candidates, ids.take(pa.array(candidates, pa.int64())).to_pylist(), strict=True
    ):
        if product_id in seen:
            counts.repeated += 1
        else:
            seen.add(product_id)
            rows.append(row)
    return rows


def _clean_ids(column: pa.Array) -> pa.Array:
    """Returns the ids as text, null where there is none.

    Raises:
        InputError: white space in an id, which TREC files cannot hold.
    """
    ids = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    spaced = ids.filter(pc.match_substring_regex(ids, r"[\s\p{Z}]"))
    if len(spaced):
        raise InputError("products", f"id {spaced[0].as_py()!r:.60}", "ids without white space")
    return pc.if_else(pc.equal(ids, ""), pa.scalar(None, pa.string()), ids)


def _listed(counts: ProductCounts | JudgementCounts) -> str:
    """Lists the counts that are not zero, such as "120 products, 3 without title"."""
    named = [
        f"{count:,} {what.replace('_', ' ')}"
        for place, (what, count) in enumerate(dataclasses.asdict(counts).items())
        if count or place == 0
    ]
    return ", ".join(named)
