"""What every reader returns, and how it is written in the project's own format."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from catid2_jax.constraints import NonNegativeInt, at_least, at_most, check_fields
from catid2_jax.data.queries import write_qrels, write_queries
from catid2_jax.data.sources.conversion import as_category_cells, as_ids, as_text
from catid2_jax.data.sources.judgements import SPLITS, JudgementCounts, split_judgements
from catid2_jax.data.text import (
    clean,
    clean_text,
    count_angle_brackets,
    count_repaired,
    labelled_text,
)
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_folder, atomic_write
from catid2_jax.progress import console
from catid2_jax.types import GRADES, Qrels

CATALOG = "catalog.parquet"

OTHER_CATEGORIES = "other_categories"
"""Column of the paths of products that have several: those beside `categories`."""

_NAMES = pa.list_(pa.string())
_FILES = (CATALOG, *(name for s in SPLITS for name in (f"queries.{s}.jsonl", f"qrels.{s}.txt")))

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("categories", _NAMES),
    ]
)


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

    max_characters: NonNegativeInt = 0
    test_share: Annotated[float, at_least(0), at_most(1)] = 0.2

    def __post_init__(self) -> None:
        check_fields(self)


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
        variants: products that are variants of another, whose title and categories they have.
        with_several_paths: products with further category paths, in the field `other_categories`.
        with_gaps_in_path: products with an empty level above another, which was closed up.
        values_repaired: values of texts with bytes in a wrong encoding, which were read again.
        values_with_angle_brackets: values of texts with words in angle brackets that are no markup.
    """

    products: int = 0
    without_id: int = 0
    without_title: int = 0
    without_category: int = 0
    repeated: int = 0
    values_cut: int = 0
    variants: int = 0
    with_several_paths: int = 0
    with_gaps_in_path: int = 0
    values_repaired: int = 0
    values_with_angle_brackets: int = 0


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as published, under known column names.

    Attributes:
        products: batches with the columns `id`, `title`, `categories` (list of names, root first)
            and any others, which make up the product's text: the name of each is its label there.
            OTHER_CATEGORIES (list of paths such as "A > B"), in all batches or in none, becomes a
            field of its own.
        judgements: batches with the columns `query_id`, `query`, `product_id`, `label` and
            optionally `split`; `split_judgements` says which values they take.
        selected: whether the products are a selection of those judged, so that judgements may be on
            any number of others.
        counts: counts that the reader adds to while its products are read, and the writer after it.
        name: subfolder for the files, if a reader returns several sources; empty for none.
    """

    products: Iterable[pa.RecordBatch]
    judgements: Iterable[pa.RecordBatch] = ()
    name: str = ""
    selected: bool = False
    counts: ProductCounts = dataclasses.field(default_factory=ProductCounts)


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
        InputError: an id with white space, a column that cannot be converted (see `conversion`), no
            usable product, or any error of the source's reader or of `split_judgements`.
    """
    counts, judgements = source.counts, JudgementCounts()
    seen: set[str] = set()
    left_out: set[str] = set()
    products = iter(source.products)
    first = next(products, None)  # a schema is needed before anything is written
    schema = SCHEMA if first is None else _schema(first)
    batches = itertools.chain([] if first is None else [first], products)
    with atomic_folder(directory / source.name, _FILES) as folder:
        with (
            atomic_write(folder / CATALOG, "wb") as file,
            pa.parquet.ParquetWriter(file, schema, compression="zstd") as writer,
        ):
            for batch in usable_products(batches, seen, left_out, config.max_characters, counts):
                writer.write_batch(batch)
            if not seen:
                raise InputError("products", f"none to keep ({_listed(counts)})", "at least one")
        splits = split_judgements(
            source.judgements,
            seen,
            config.test_share,
            judgements,
            None if source.selected else left_out,
        )
        for split, (queries, qrels) in splits.items():
            write_queries(folder / f"queries.{split}.jsonl", queries)
            write_qrels(folder / f"qrels.{split}.txt", qrels)
    _warn_of_binary(splits)
    return counts, judgements


def check_sources(flags: Mapping[str, Any], directory: pathlib.Path) -> None:
    """Checks that no source is among the files that `write_dataset` replaces.

    Args:
        flags: names of flags, of which some are paths, with their values.
        directory: the folder for the files.

    Raises:
        InputError: one is.
    """
    replaced = {(directory / name).resolve() for name in _FILES}
    for name, value in flags.items():
        if isinstance(value, str) and pathlib.Path(value).resolve() in replaced:
            raise InputError(name, repr(value), "a file that the import does not replace")


def report(directory: pathlib.Path, counts: ProductCounts, judgements: JudgementCounts) -> None:
    """Prints how much was written to `directory`, left out and cut, and how many queries."""
    console.print(f"{directory}: {_listed(counts)}")
    if any(dataclasses.astuple(judgements)):
        console.print(f"  {_listed(judgements)}")
    for split in SPLITS:
        queries = directory / f"queries.{split}.jsonl"
        if queries.exists():
            with queries.open("rb") as lines:
                console.print(f"  {queries.name}: {sum(1 for _ in lines):,} queries")


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


def _schema(batch: pa.RecordBatch) -> pa.Schema:
    several = OTHER_CATEGORIES in batch.schema.names
    return SCHEMA.append(pa.field(OTHER_CATEGORIES, _NAMES)) if several else SCHEMA


def usable_products(
    batches: Iterable[pa.RecordBatch],
    seen: set[str],
    left_out: set[str],
    max_characters: int,
    counts: ProductCounts,
) -> Iterator[pa.RecordBatch]:
    """Yields products as they are written; adds their ids to `seen`, those of others to `left_out`.

    `conversion` finds nothing to do where a reader has converted the columns of its file.
    """
    where, first_row = "products", 1
    for batch in batches:
        ids = as_ids(batch.column("id"), "id", where, first_row)
        titles = as_text(batch.column("title"), "title", where, first_row)
        cells = as_category_cells(batch.column("categories"), "categories", where)
        paths = clean_paths(cells)
        rows = pa.array(_usable_rows(ids, clean(titles), paths, seen, counts), pa.int64())
        left_out.update(set(ids.drop_null().to_pylist()) - seen)
        raw = {"title": titles.take(rows)} | {
            name: as_text(batch.column(name), name, where, first_row).take(rows)
            for name in batch.schema.names
            if name not in ("id", "categories", "title", OTHER_CATEGORIES)
        }
        fields = {name: clean(column) for name, column in raw.items()}
        counts.values_repaired += sum(map(count_repaired, raw.values()))
        counts.values_with_angle_brackets += sum(map(count_angle_brackets, fields.values()))
        counts.with_gaps_in_path += _count_gaps(cells, paths, rows)
        titles = fields.pop("title")
        first_row += len(batch)
        text, cut = labelled_text(fields, len(rows), max_characters)
        counts.values_cut += cut
        counts.products += len(rows)
        columns = [ids.take(rows), titles, text, paths.take(rows)]
        if OTHER_CATEGORIES in batch.schema.names:
            columns.append(batch.column(OTHER_CATEGORIES).take(rows))
            counts.with_several_paths += len(rows) - columns[-1].null_count
        yield pa.RecordBatch.from_arrays(columns, schema=_schema(batch))


def _count_gaps(paths: pa.Array, cleaned: pa.Array, rows: pa.Array) -> int:
    """Counts the paths of some rows in which a dropped name stands before one that stays."""
    shorter = pc.less(pc.list_value_length(cleaned), pc.list_value_length(paths))
    rows = rows.filter(shorter.take(rows))
    gaps = 0
    for names in paths.take(rows).to_pylist():
        kept = [name is not None and bool(clean_text(str(name))) for name in names]
        gaps += kept != sorted(kept, reverse=True)
    return gaps


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


def _warn_of_binary(splits: Mapping[str, tuple[Any, Qrels]]) -> None:
    """Says that the judgements look binary, for then 1 is relevant and not ESCI's complement."""
    grades = {
        grade for _, qrels in splits.values() for row in qrels.values() for grade in row.values()
    }
    if grades and max(grades) == GRADES["C"]:
        console.print(
            "  all judgements have grade 1 (complement) or 0: if 1 stands for relevant, write E, "
            "or prepare with 'C' as the training and the relevant label"
        )


def _listed(counts: ProductCounts | JudgementCounts) -> str:
    """Lists the counts that are not zero, such as "120 products, 3 without title"."""
    named = [
        f"{count:,} {what.replace('_', ' ')}"
        for place, (what, count) in enumerate(dataclasses.asdict(counts).items())
        if count or place == 0
    ]
    return ", ".join(named)
