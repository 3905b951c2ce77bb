"""Step 1: reads (or generates) the data, applies the paper's preprocessing, prints Table 1."""

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from catid2_jax.config import Config
from catid2_jax.data.catalog import stream_products
from catid2_jax.data.config import FILES, SPLITS, DataConfig
from catid2_jax.data.corpus import write_columns
from catid2_jax.data.preprocessing import (
    PreprocessingCounts,
    count_judgements,
    keep_grades,
    preprocess_heldout,
    preprocess_products,
    preprocess_training,
)
from catid2_jax.data.queries import (
    SOURCE_ROW,
    named_documents,
    read_qrels,
    read_queries,
    relevant_grades,
    write_qrels,
    write_queries,
)
from catid2_jax.data.statistics import dataset_statistics, statistics_table
from catid2_jax.data.synthetic_files import write_synthetic
from catid2_jax.errors import InputError
from catid2_jax.files import write_json
from catid2_jax.progress import console
from catid2_jax.types import GRADES, Product, Qrels
from catid2_jax.workdir import Place


@dataclasses.dataclass
class _Kept:
    """What the splits need of the catalogue: as little as may be, for it may have many products.

    Attributes:
        read: number of products read.
        known: ids of those that some judgement names.
        ids: ids of those of them that are kept.
        paths: category path -> number of the products kept.
        rejected: bad records set aside.
        unjudged: split -> its queries that have no judgement.
        values_left_out: further field -> its values that could not be kept.
    """

    read: int = 0
    known: set[str] = dataclasses.field(default_factory=set)
    ids: set[str] = dataclasses.field(default_factory=set)
    paths: collections.Counter[tuple[str, ...]] = dataclasses.field(
        default_factory=collections.Counter
    )
    rejected: int = 0
    unjudged: dict[str, int] = dataclasses.field(default_factory=dict)
    values_left_out: dict[str, int] = dataclasses.field(default_factory=dict)


def run(config: Config, place: Place) -> Mapping[str, Any]:
    """Fills `data/` with the catalogue, queries and qrels that every later step reads.

    Returns:
        How many records the sources have: `products`, and per split `<split>_queries`.
    """
    data = config.data
    if not data.catalog:
        paths = write_synthetic(data.synthetic, place.workdir.root / "synthetic", config.seed)
        data = dataclasses.replace(data, **paths)  # type: ignore[arg-type]
    data = data.fetched()
    _check_sources(data, place)
    counts = PreprocessingCounts()
    kept = _prepare_products(data, place, counts)
    source_rows = {"products": kept.read + kept.rejected}
    qrels: dict[str, Qrels] = {}
    for split in SPLITS:
        if getattr(data, f"{split}_queries"):
            qrels[split], source_rows[f"{split}_queries"] = _prepare_split(
                data, place, split, kept, qrels.get("train"), counts
            )
        else:  # what an unfinished run with another configuration may have left
            for path in (place.workdir.queries(split), place.workdir.qrels(split)):
                path.unlink(missing_ok=True)
    _report(config, place, kept, qrels, counts)
    return {"source_rows": source_rows}


def _check_sources(data: DataConfig, place: Place) -> None:
    """Raises InputError for a source that the step would write over."""
    folder = place.workdir.data.resolve()
    for name in FILES:
        path = getattr(data, name)
        if path and pathlib.Path(path).resolve().parent == folder:
            raise InputError(
                f"config.data.{name}", repr(path), "a file outside of the work directory's data/"
            )


def _prepare_products(data: DataConfig, place: Place, counts: PreprocessingCounts) -> _Kept:
    """Writes the products kept, with their rows in the source, product by product."""
    rejects = place.workdir.data / "rejected.jsonl"
    reader = stream_products(data.catalog, data.on_error, rejects)
    kept = _Kept()
    judged: set[str] = set()
    for split in SPLITS:
        if getattr(data, f"{split}_queries"):
            judged |= named_documents(getattr(data, f"{split}_qrels"))

    def source() -> Iterator[Product]:
        for product in reader:
            kept.read += 1
            if product.id in judged:
                kept.known.add(product.id)
            yield product

    def products() -> Iterator[tuple[int, Product]]:
        for product in preprocess_products(source(), data.preprocessing, counts):
            if product.id in judged:
                kept.ids.add(product.id)
            kept.paths[product.categories] += 1
            yield kept.read + reader.rejected - 1, product
        if not kept.paths:
            depth = data.preprocessing.minimum_depth
            raise InputError(
                data.catalog,
                f"no product of {depth} category levels or more",
                "some (config.data.preprocessing.minimum_depth)",
            )

    write_columns(place.workdir.catalog, products())
    kept.rejected, kept.values_left_out = reader.rejected, dict(reader.values_left_out)
    return kept


def _prepare_split(
    data: DataConfig,
    place: Place,
    split: str,
    kept: _Kept,
    training: Qrels | None,
    counts: PreprocessingCounts,
) -> tuple[Qrels, int]:
    """Writes what preprocessing leaves of a split; returns its qrels and the source's queries."""
    path = getattr(data, f"{split}_queries")
    queries = {query.id: query for query in read_queries(path)}
    # A judgement on a rejected product is no mistake of the qrels: it goes with the product.
    documents = None if kept.rejected else kept.known
    judged = read_qrels(getattr(data, f"{split}_qrels"), queries.keys(), documents)
    kept.unjudged[split] = len(queries) - len(judged)
    if training is None:
        qrels = preprocess_training(judged, kept.ids, data.preprocessing, counts)
    else:
        qrels = preprocess_heldout(judged, training, kept.ids, data.preprocessing, counts)
    if not qrels:
        _check_labels(data, split, judged)
        raise InputError(
            path,
            "no query with a relevant document after preprocessing",
            "some (see config.data.preprocessing)",
        )
    # Preprocessing drops queries, and the others come in the order of their judgements.
    rows = {query_id: row for row, query_id in enumerate(queries)}
    write_queries(
        place.workdir.queries(split),
        (
            dataclasses.replace(queries[q], extra={**queries[q].extra, SOURCE_ROW: rows[q]})
            for q in qrels
        ),
    )
    write_qrels(place.workdir.qrels(split), qrels)
    return qrels, len(queries)


def _check_labels(data: DataConfig, split: str, judged: Qrels) -> None:
    """Raises InputError if no judgement has a label that is asked for, as where 1 is relevant."""
    field = "training_labels" if split == "train" else "relevant_labels"
    labels: tuple[str, ...] = getattr(data.preprocessing, field)
    found = {grade for grades in judged.values() for grade in grades.values()}
    if found & relevant_grades(labels):
        return
    names = {0: "irrelevant", 1: "complement", 2: "substitute", 3: "exact"}
    given = " and ".join(f"{grade} ({names[grade]})" for grade in sorted(found))
    letters = tuple(label for label, grade in GRADES.items() if grade == max(found))
    raise InputError(
        getattr(data, f"{split}_qrels"),
        f"all {count_judgements(judged):,} judgements with grade {given}, none of "
        f"config.data.preprocessing.{field} = {labels}",
        f"grade 3 where a product is relevant, or {field} = {letters} if {max(found)} says so",
    )


def _report(
    config: Config,
    place: Place,
    kept: _Kept,
    qrels: dict[str, Qrels],
    counts: PreprocessingCounts,
) -> None:
    """Prints Table 1 and what preprocessing took away, and keeps the figures."""
    relevant = relevant_grades(config.data.preprocessing.relevant_labels)
    pairs = {
        split: judged if split == "train" else keep_grades(judged, relevant)
        for split, judged in qrels.items()
    }
    statistics = dataset_statistics(kept.paths, pairs)
    name = pathlib.Path(config.data.catalog).parent.name if config.data.catalog else "synthetic"
    console.print(statistics_table(statistics, name or "catalogue"))
    removed = {
        f"{split}_queries_without_judgements": count for split, count in kept.unjudged.items()
    }
    removed = {
        what: count for what, count in {**removed, **dataclasses.asdict(counts)}.items() if count
    }
    if kept.rejected:
        rejects = place.workdir.data / "rejected.jsonl"
        console.print(f"{kept.rejected} bad records set aside in {rejects}")
        removed["rejected_records"] = kept.rejected
    for name, count in kept.values_left_out.items():
        removed[f"values_left_out_of_{name}"] = count
    for what, count in removed.items():
        console.print(f"  {what.replace('_', ' ')}: {count:,}")
    write_json(place.figures("prepare"), statistics | removed)
