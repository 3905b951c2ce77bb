"""Stage 2 as seqio tasks: `query_to_id`, `title_to_id` and their mixture. Needs the extra `seqio`.

An example of training is one pair: {inputs: a query or a title, targets: an ID's text form}. One of
validation or test is a query: `targets` is one relevant product's ID and `relevant` has them all.
"""

import functools
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import seqio
import tensorflow as tf

from catid2_jax.data.catalog import read_catalog
from catid2_jax.data.preprocessing import keep_grades
from catid2_jax.data.queries import read_qrels, read_queries, relevant_grades
from catid2_jax.errors import InputError
from catid2_jax.types import GRADES

SPLITS: Mapping[str, str] = {"train": "train", "validation": "dev", "test": "test"}
"""seqio's name of a split -> the one in the files of `data/`."""

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
        data: the preprocessed catalogue, queries and qrels.
        docids: product -> text form of its ID.
        vocabulary: encodes texts and IDs.
        metrics: for validation and test.
        title_weight: 0 for a mixture of queries only.
        substitutes: whether pairs of grade S are learnt, too.

    Returns:
        The mixture's name.

    Raises:
        InputError: `title_weight` is below 0, or a query's product has no ID.
    """
    if title_weight < 0:
        raise InputError(f"title_weight is {title_weight}: expected at least 0")
    grades = GRADES.values() if substitutes else [GRADES["E"]]
    queries = {"train": list(query_pairs(data, docids, grades))}
    for split, name in SPLITS.items():
        if split != "train" and (data / f"queries.{name}.jsonl").exists():
            queries[split] = list(judged_queries(data, name, docids))
    names = (f"{prefix}_query_to_id", f"{prefix}_title_to_id", f"{prefix}_to_id")
    for registry in (seqio.TaskRegistry, seqio.MixtureRegistry):
        for name in set(names) & set(registry.names()):
            registry.remove(name)
    # The catalogue, which may be large, is read anew each time.
    splits = {split: functools.partial(iter, examples) for split, examples in queries.items()}
    titles = {"train": functools.partial(title_pairs, data, docids)}
    _add_task(names[0], splits, vocabulary, metrics)
    _add_task(names[1], titles, vocabulary)
    rates = [(names[0], float(len(queries["train"]))), (names[1], title_weight * len(docids))]
    seqio.MixtureRegistry.add(names[2], [(name, rate) for name, rate in rates if rate > 0])
    return names[2]


def query_pairs(
    data: pathlib.Path, docids: Mapping[str, str], grades: Collection[int]
) -> Iterator[Example]:
    """A pair for every judgement of these grades of the training queries."""
    qrels = read_qrels(data / "qrels.train.txt")
    for query in read_queries(data / "queries.train.jsonl"):
        for product, grade in qrels[query.id].items():
            if grade in grades:
                yield {"inputs": query.text, "targets": _docid(docids, product, query.id)}


def title_pairs(data: pathlib.Path, docids: Mapping[str, str]) -> Iterator[Example]:
    """A pair for every product of the catalogue."""
    for product in read_catalog(data / "catalog.jsonl"):
        yield {"inputs": product.title, "targets": _docid(docids, product.id, "the catalogue")}


def judged_queries(data: pathlib.Path, split: str, docids: Mapping[str, str]) -> Iterator[Example]:
    """An example for every query with a relevant product: E or S, the best grade first."""
    qrels = read_qrels(data / f"qrels.{split}.txt")
    relevant = keep_grades(qrels, relevant_grades(("E", "S")))
    for query in read_queries(data / f"queries.{split}.jsonl"):
        if query.id in relevant:
            judged = relevant[query.id]
            products = sorted(judged, key=judged.__getitem__, reverse=True)
            texts = [_docid(docids, product, query.id) for product in products]
            yield {"inputs": query.text, "targets": texts[0], "relevant": " ".join(texts)}


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
