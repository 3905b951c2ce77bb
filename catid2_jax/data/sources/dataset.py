"""What every source gives, and how it becomes the project's own files."""

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
from catid2_jax.files import atomic_write
from catid2_jax.progress import console

CATALOG = "catalog.parquet"
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
    """A data set as its publisher has it, with columns of known names.

    Attributes:
        products: batches of `id`, `title`, `categories` (list of names, root first) and the fields
            of the text, each named by its label, in their order.
        judgements: batches of `query_id`, `query`, `product_id`, `label` and maybe `split`; see
            `split_judgements`.
        name: folder of its own for one of several sources.
    """

    products: Iterable[pa.RecordBatch]
    judgements: Iterable[pa.RecordBatch] = ()
    name: str = ""


@dataclasses.dataclass(frozen=True)
class WritingConfig:
    """What every source leaves to choose.

    Attributes:
        max_characters: longer fields of the text are cut there and counted; 0 keeps them whole.
        test_share: share of the queries that are for the test where a source has no splits.
    """

    max_characters: int = 0
    test_share: float = 0.2

    def __post_init__(self) -> None:
        if self.max_characters < 0 or not 0 <= self.test_share <= 1:
            raise InputError(
                f"found max_characters {self.max_characters} and test_share {self.test_share}, "
                "expected at least 0 and a share from 0 to 1"
            )


@dataclasses.dataclass
class ProductCounts:
    """What became of the products.

    Attributes:
        products: written.
        without_id: left out; so are the next three.
        without_title: nothing is left of it once it is cleaned.
        without_category: no category path.
        repeated: an id that was there before; the first usable product is kept.
        values_cut: values of text fields that were longer than allowed.
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

    Every text is cleaned (see `data/text.py`), whole category paths and all grades are kept: what
    the paper leaves out, the preprocessing leaves out later. Products are streamed.

    Args:
        source: the data set.
        directory: where the files go, below it in `source.name`; files of splits that the source
            has no judgement of are removed.
        config: what is left to choose.

    Raises:
        InputError: an id with white space, no usable product, or what the source's reader and
            `split_judgements` raise.
    """
    directory = directory / source.name
    counts = ProductCounts()
    seen: set[str] = set()
    with (
        atomic_write(directory / CATALOG, "wb") as file,
        pa.parquet.ParquetWriter(file, SCHEMA, compression="zstd") as writer,
    ):
        for batch in _usable_products(source.products, seen, config.max_characters, counts):
            writer.write_batch(batch)
        if not seen:
            raise InputError(f"products: found none to keep ({_listed(counts)}), expected some")
        # Before the catalogue takes its place, so that bad judgements leave all as it was.
        judgements = JudgementCounts()
        splits = split_judgements(source.judgements, seen, config.test_share, judgements)
    for split in SPLITS:
        paths = directory / f"queries.{split}.jsonl", directory / f"qrels.{split}.txt"
        if split in splits:
            queries, qrels = splits[split]
            write_qrels(paths[1], qrels)
            write_queries(paths[0], queries)
        else:  # what an earlier import left would be of another catalogue
            for path in paths:
                path.unlink(missing_ok=True)
    return counts, judgements


def report(directory: pathlib.Path, counts: ProductCounts, judgements: JudgementCounts) -> None:
    """Prints what is in `directory` and what was left out or cut."""
    console.print(f"{directory}: {_listed(counts)}")
    if any(dataclasses.astuple(judgements)):
        console.print(f"  {_listed(judgements)}")


def clean_paths(paths: pa.Array) -> pa.Array:
    """Cleans the names of category paths; names of which nothing is left go.

    Args:
        paths: list<string> [rows].

    Returns:
        list<string> [rows]; an empty list where the row is null.
    """
    lengths = pc.fill_null(pc.list_value_length(paths), 0).to_numpy()
    # A catalogue has few names: each is cleaned once.
    names = pc.dictionary_encode(pc.list_flatten(paths).cast(pa.string()))
    names = clean(names.dictionary).take(names.indices)
    kept = np.concatenate([[0], np.cumsum(names.is_valid().to_numpy(zero_copy_only=False))])
    offsets = kept[np.concatenate([[0], np.cumsum(lengths)])]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names.drop_null())


def _usable_products(
    batches: Iterable[pa.RecordBatch], seen: set[str], max_characters: int, counts: ProductCounts
) -> Iterator[pa.RecordBatch]:
    """Yields batches of SCHEMA; `seen` gets their ids."""
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
    """Ids as text; null where there is none.

    Raises:
        InputError: white space in an id, which TREC's files cannot hold.
    """
    ids = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    spaced = ids.filter(pc.match_substring_regex(ids, r"[\s\p{Z}]"))
    if len(spaced):
        raise InputError(
            f"products: found id {spaced[0].as_py()!r:.60}, expected ids without white space"
        )
    return pc.if_else(pc.equal(ids, ""), pa.scalar(None, pa.string()), ids)


def _listed(counts: ProductCounts | JudgementCounts) -> str:
    """The counts that are not zero, such as "120 products, 3 without title"."""
    named = [
        f"{count:,} {what.replace('_', ' ')}"
        for place, (what, count) in enumerate(dataclasses.asdict(counts).items())
        if count or place == 0
    ]
    return ", ".join(named)
