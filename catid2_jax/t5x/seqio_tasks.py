"""Stage 2 as seqio tasks: `query_to_id`, `title_to_id` and their mixture. Needs the extra `seqio`.

Their data are the files of a work directory or a data set that tensorflow_datasets built.

An example of training is one pair: {inputs: a query or a title, targets: an ID's text form}. One of
validation or test is a query: `targets` is one relevant product's ID and `relevant` has them all.
"""

import functools
import operator
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from catid2_jax.data.catalog import stream_products
from catid2_jax.data.queries import read_qrels, read_queries, relevant_grades
from catid2_jax.data.tfds.examples import CATALOG, SPLITS, product_examples, query_examples
from catid2_jax.errors import InputError
from catid2_jax.types import GRADES

Example: TypeAlias = dict[str, str]
Metric: TypeAlias = Callable[[Sequence[list[str]], Sequence[list[str]]], Mapping[str, float]]
"""(relevant IDs, predicted IDs best first) of each query -> figures."""


def register_tasks(
    prefix: str,
    data: pathlib.Path,
    docids: Mapping[str, str],
    vocabulary: seqio.Vocabulary,
    metrics: Sequence[Metric] = (),
    title_weight: float = 1.0,
    substitutes: bool = True,
) -> str:
    """Registers `{prefix}_query_to_id`, `{prefix}_title_to_id` and `{prefix}_to_id`, their mixture.

    The mixture draws a task as often as it has pairs, titles `title_weight` times that. Tasks that
    were registered under the same names are replaced.

    Args:
        prefix: of the names.
        data: folder of the preprocessed catalogue, queries and qrels, or of a data set that
            tensorflow_datasets built of them, such as DATA_DIR/esci/us/1.0.0.
        docids: product -> text form of its ID.
        vocabulary: encodes texts and IDs.
        metrics: for validation and test.
        title_weight: 0 for a mixture of queries only.
        substitutes: whether pairs of grade S are learnt, too.

    Returns:
        The mixture's name.

    Raises:
        InputError: `title_weight` is below 0, `data` is no such folder, or a query's product has
            no ID.
    """
    if title_weight < 0:
        raise InputError(f"title_weight is {title_weight}: expected at least 0")
    grades = GRADES.values() if substitutes else [GRADES["E"]]
    judged = read_splits(data) - {"train", CATALOG}
    queries = {"train": list(pairs(read_examples(data, "train"), docids, grades))}
    for split in sorted(judged):
        queries[split] = list(judged_queries(read_examples(data, split), docids))
    names = (f"{prefix}_query_to_id", f"{prefix}_title_to_id", f"{prefix}_to_id")
    for registry in (seqio.TaskRegistry, seqio.MixtureRegistry):
        for name in set(names) & set(registry.names()):
            registry.remove(name)
    # The catalogue, which may be large, is read anew each time.
    splits = {split: functools.partial(iter, examples) for split, examples in queries.items()}
    titles = {"train": lambda: pairs(read_examples(data, CATALOG), docids)}
    _add_task(names[0], splits, vocabulary, metrics)
    _add_task(names[1], titles, vocabulary)
    rates = [(names[0], float(len(queries["train"]))), (names[1], title_weight * len(docids))]
    seqio.MixtureRegistry.add(names[2], [(name, rate) for name, rate in rates if rate > 0])
    return names[2]


def read_splits(data: pathlib.Path) -> set[str]:
    """The splits in a folder of files, or in one of a built data set.

    Raises:
        InputError: a built data set that is not one of `catid2_jax.data.tfds`.
    """
    if not _is_built(data):
        files = {split: data / f"queries.{name}.jsonl" for split, name in SPLITS.items()}
        return {CATALOG} | {split for split, path in files.items() if path.exists()}
    found = set(tfds.builder_from_directory(data).info.splits)
    if not {CATALOG, "train"} <= found:
        raise InputError(
            f"{data}: found the splits {', '.join(sorted(found))}, expected {CATALOG} and train"
        )
    return found


def read_examples(data: pathlib.Path, split: str) -> Iterator[Mapping[str, Any]]:
    """A split's examples as `catid2_jax.data.tfds` has them, of files or of a built data set."""
    if _is_built(data):
        builder = tfds.builder_from_directory(data)
        yield from map(_decoded, tfds.as_numpy(builder.as_dataset(split=split)))
        return
    if split == CATALOG:
        found = product_examples(stream_products(data / "catalog.jsonl"))
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


def pairs(
    examples: Iterable[Mapping[str, Any]],
    docids: Mapping[str, str],
    grades: Collection[int] = tuple(GRADES.values()),
) -> Iterator[Example]:
    """A pair for every product of these grades."""
    for example in examples:
        for product in example["products"]:
            if product["grade"] in grades:
                docid = _docid(docids, product["id"], example["id"])
                yield {"inputs": example["text"], "targets": docid}


def judged_queries(
    examples: Iterable[Mapping[str, Any]], docids: Mapping[str, str]
) -> Iterator[Example]:
    """An example for every query with a relevant product: E or S, the best grade first."""
    relevant = relevant_grades(("E", "S"))
    for example in examples:
        judged = [product for product in example["products"] if product["grade"] in relevant]
        judged.sort(key=operator.itemgetter("grade"), reverse=True)
        texts = [_docid(docids, product["id"], example["id"]) for product in judged]
        if texts:
            yield {"inputs": example["text"], "targets": texts[0], "relevant": " ".join(texts)}


def _docid(docids: Mapping[str, str], product: str, where: str) -> str:
    if product not in docids:
        raise InputError(f"{where}: found product {product!r} without an ID, expected one for all")
    return docids[product]


def _add_task(
    name: str,
    splits: Mapping[str, Callable[[], Iterator[Example]]],
    vocabulary: seqio.Vocabulary,
    metrics: Sequence[Metric] = (),
) -> None:
    # From tensors, not from a generator, whose place T5X's `infer` could not save.
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
    """The relevant IDs, or the predicted ones, which come worst first, best first."""
    if is_target:
        return [text.decode() for text in example["relevant"]]
    return [output] if isinstance(output, str) else list(reversed(output))
