"""Stage 2 as seqio tasks: `query_to_id`, `title_to_id` and their mixture. Needs the extra `seqio`.

Their data are the files of a work directory or a data set that tensorflow_datasets built.

A training example is one pair: {inputs: a query or a title, targets: an ID's text form}. A
validation or test example is a query: `targets` is the ID of one relevant product, and `relevant`
has those of all.
"""

import collections
import functools
import operator
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from catid2_jax.data.corpus import Catalog
from catid2_jax.data.queries import read_qrels, read_queries, relevant_grades
from catid2_jax.data.tfds.examples import CATALOG, SPLITS, product_examples, query_examples
from catid2_jax.errors import InputError
from catid2_jax.seq2seq.pairs import PairWeights, query_pairs

Example: TypeAlias = dict[str, str]
Metric: TypeAlias = Callable[[Sequence[list[str]], Sequence[list[str]]], Mapping[str, float]]
"""(relevant IDs, predicted IDs best first) of each query -> figures."""


class Kind(NamedTuple):
    """The training pairs of one task.

    Attributes:
        read: gives the pairs, each time anew.
        weight: sum of the weights that the pairs have in the loss of native training.
    """

    read: Callable[[], Iterator[Example]]
    weight: float


def register_tasks(
    prefix: str,
    data: pathlib.Path,
    docids: Mapping[str, str],
    vocabulary: seqio.Vocabulary,
    metrics: Sequence[Metric] = (),
    title_weight: float = 1.0,
    substitute_weight: float = 1.0,
) -> str:
    """Registers `{prefix}_query_to_id`, `{prefix}_title_to_id` and `{prefix}_to_id`, their mixture.

    The weights mean what they mean in native training: those of a pair in the loss, beside 1 for a
    query's exact product. The mixture draws each task in proportion to the sum of its pairs'
    weights. Pairs of one task weigh the same, so pairs of a query and a substitute are a third
    task, `{prefix}_substitute_to_id`, unless they weigh 1. Tasks that were registered under the
    same names are replaced.

    Args:
        prefix: the beginning of the names.
        data: folder of the preprocessed catalogue, queries and qrels, or of a data set that
            tensorflow_datasets built of them, such as DATA_DIR/esci/us/1.0.0.
        docids: product -> text form of its ID.
        vocabulary: encodes texts and IDs.
        metrics: figures of validation and test.
        title_weight: weight of a pair title -> ID; 0 for a mixture of queries only.
        substitute_weight: weight of a pair of a query and a product of a lesser grade; 0 for none.

    Returns:
        The mixture's name.

    Raises:
        InputError: a weight is below 0 or no pair has one, `data` is no such folder, or a query's
            product has no ID.
    """
    weights, splits_there = PairWeights(title_weight, substitute_weight), read_splits(data)
    kinds = training_kinds(data, docids, weights)
    names = {kind: f"{prefix}_{kind}_to_id" for kind in ("query", "substitute", "title")}
    rates = [(names[kind], pairs.weight) for kind, pairs in kinds.items() if pairs.weight > 0]
    if not rates:
        raise InputError(
            "training pairs", "none with a weight", "some: raise title_weight or substitute_weight"
        )
    judged = {}
    for split in sorted(splits_there - {"train", CATALOG}):
        rows = list(judged_queries(read_examples(data, split), docids))
        if rows:
            judged[split] = functools.partial(iter, rows)
    mixture = f"{prefix}_to_id"
    for registry in (seqio.TaskRegistry, seqio.MixtureRegistry):
        for name in {*names.values(), mixture} & set(registry.names()):
            registry.remove(name)
    for kind, name in names.items():
        splits = {"train": kinds[kind].read} if kind in kinds else {}
        splits |= judged if kind == "query" else {}
        if splits:
            _add_task(name, splits, vocabulary, metrics if kind == "query" else ())
    seqio.MixtureRegistry.add(mixture, rates)
    return mixture


def training_kinds(
    data: pathlib.Path, docids: Mapping[str, str], weights: PairWeights
) -> dict[str, Kind]:
    """The training pairs of native training by kind: "query", "substitute" and "title".

    "query" has all pairs of a query that weigh 1. A kind without a pair is left out, but for
    titles.

    Raises:
        InputError: a query's product has no ID, or there is no catalogue.
    """
    examples = list(read_examples(data, "train"))
    qrels = {e["id"]: {p["id"]: p["grade"] for p in e["products"]} for e in examples}
    pairs: dict[str, list[Example]] = collections.defaultdict(list)
    totals: dict[str, float] = collections.defaultdict(float)
    for row, product, weight in query_pairs(list(qrels), qrels, weights):
        kind, example = "query" if weight == 1.0 else "substitute", examples[row]
        docid = _docid(docids, product, example["id"])
        pairs[kind].append({"inputs": example["text"], "targets": docid})
        totals[kind] += weight
    kinds = {kind: Kind(functools.partial(iter, pairs[kind]), totals[kind]) for kind in pairs}
    # The catalogue, which may be large, is read anew each time.
    titles = functools.partial(_title_pairs, data, docids)
    return kinds | {"title": Kind(titles, weights.title * _count_products(data))}


def _title_pairs(data: pathlib.Path, docids: Mapping[str, str]) -> Iterator[Example]:
    for example in read_examples(data, CATALOG):
        docid = _docid(docids, example["id"], example["id"])
        yield {"inputs": example["text"], "targets": docid}


def _count_products(data: pathlib.Path) -> int:
    if _is_built(data):
        return tfds.builder_from_directory(data).info.splits[CATALOG].num_examples
    return len(Catalog.open(data / "catalog.parquet"))


def read_splits(data: pathlib.Path) -> set[str]:
    """Lists the splits in a folder of files, or in one of a built data set.

    Raises:
        InputError: a built data set that is not one of `catid2_jax.data.tfds`.
    """
    if not _is_built(data):
        files = {split: data / f"queries.{name}.jsonl" for split, name in SPLITS.items()}
        return {CATALOG} | {split for split, path in files.items() if path.exists()}
    found = set(tfds.builder_from_directory(data).info.splits)
    if not {CATALOG, "train"} <= found:
        raise InputError(data, f"the splits {', '.join(sorted(found))}", f"{CATALOG} and train")
    return found


def read_examples(data: pathlib.Path, split: str) -> Iterator[Mapping[str, Any]]:
    """Yields a split's examples in the form of `catid2_jax.data.tfds`, whatever the folder is."""
    if _is_built(data):
        builder = tfds.builder_from_directory(data)
        yield from map(_decoded, tfds.as_numpy(builder.as_dataset(split=split)))
        return
    if split == CATALOG:
        found = product_examples(Catalog.open(data / "catalog.parquet"))
    else:
        qrels = read_qrels(data / f"qrels.{SPLITS[split]}.txt")
        found = query_examples(read_queries(data / f"queries.{SPLITS[split]}.jsonl"), qrels)
    for _, example in found:
        yield example


def _is_built(data: pathlib.Path) -> bool:
    return (data / "dataset_info.json").exists()


def _decoded(row: Mapping[str, Any]) -> Mapping[str, Any]:
    ids, grades = row["products"]["id"], row["products"]["grade"].tolist()
    products = [{"id": i.decode(), "grade": grade} for i, grade in zip(ids, grades, strict=True)]
    return {"id": row["id"].decode(), "text": row["text"].decode(), "products": products}


def judged_queries(
    examples: Iterable[Mapping[str, Any]], docids: Mapping[str, str]
) -> Iterator[Example]:
    """Yields an example for every query with a relevant product: E or S, best grade first."""
    relevant = relevant_grades(("E", "S"))
    for example in examples:
        judged = [product for product in example["products"] if product["grade"] in relevant]
        judged.sort(key=operator.itemgetter("grade"), reverse=True)
        texts = [_docid(docids, product["id"], example["id"]) for product in judged]
        if texts:
            yield {"inputs": example["text"], "targets": texts[0], "relevant": " ".join(texts)}


def _docid(docids: Mapping[str, str], product: str, where: str) -> str:
    if product not in docids:
        raise InputError(where, f"product {product!r} without an ID", "an ID for every product")
    return docids[product]


def _add_task(
    name: str,
    splits: Mapping[str, Callable[[], Iterator[Example]]],
    vocabulary: seqio.Vocabulary,
    metrics: Sequence[Metric] = (),
) -> None:
    # From tensors, not from a generator, whose position T5X's `infer` could not save.
    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        rows = list(splits[split]())
        data = tf.data.Dataset.from_tensor_slices({k: [row[k] for row in rows] for k in rows[0]})
        if split != "train":
            data = data.map(lambda row: row | {"relevant": tf.strings.split(row["relevant"])})
        return data.shuffle(len(rows), seed) if shuffle_files else data

    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(dataset, splits=tuple(splits)),
        preprocessors=[
            seqio.preprocessors.tokenize,
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features={
            "inputs": seqio.Feature(vocabulary),
            # An ID ends after its last level.
            "targets": seqio.Feature(vocabulary, add_eos=False),
        },
        postprocess_fn=_postprocess,
        metric_fns=list(metrics),
    )


def _postprocess(
    output: str | list[str], example: Mapping[str, Any], is_target: bool = False
) -> list[str]:
    """Returns the relevant IDs, or the predicted ones best first, which come worst first."""
    if is_target:
        return [text.decode() for text in example["relevant"]]
    return [output] if isinstance(output, str) else list(reversed(output))
