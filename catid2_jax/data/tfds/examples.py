"""Defines the examples of all builders: a text, and the products that it asks for.

In the splits `train`, `validation` and `test` the text is a query with its judged products; in the
split `catalog` it is a product's title, which asks for that product. Both of stage 2's tasks can
thus be read alike.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import tensorflow_datasets as tfds

from catid2_jax.types import GRADES, Product, Qrels, Query

SPLITS: Mapping[str, str] = {"train": "train", "validation": "dev", "test": "test"}
"""Name of a split of queries in tensorflow_datasets -> its name in the project's files."""

CATALOG = "catalog"
"""Name of the split with one example per product."""

Examples: TypeAlias = Iterator[tuple[str, dict[str, Any]]]

_LABELS = sorted(GRADES, key=GRADES.__getitem__)  # a label's index is its grade


def features() -> tfds.features.FeaturesDict:
    """Returns the features, which are the same in all splits.

    - `id`: id of the query or product.
    - `text`: text of the query, or title of the product.
    - `details`: further text of the product; "" for a query.
    - `categories`: category path of the product, root first; empty for a query.
    - `products`: `id` and `grade` (I, C, S, E as 0 to 3) of each product judged for the query, in
      the order of the judgements; for a product, the product itself with E.
    """
    text = tfds.features.Text()
    grade = tfds.features.ClassLabel(names=_LABELS)
    return tfds.features.FeaturesDict(
        {
            "id": text,
            "text": text,
            "details": text,
            "categories": tfds.features.Sequence(text),
            "products": tfds.features.Sequence({"id": text, "grade": grade}),
        }
    )


def query_examples(queries: Iterable[Query], qrels: Qrels) -> Examples:
    """Yields (query id, example) for every query with a judgement."""
    for query in queries:
        if query.id in qrels:
            judged = [{"id": i, "grade": grade} for i, grade in qrels[query.id].items()]
            yield query.id, _example(query.id, query.text, judged)


def product_examples(products: Iterable[Product]) -> Examples:
    """Yields (product id, example) for every product."""
    for product in products:
        itself = [{"id": product.id, "grade": GRADES["E"]}]
        example = _example(product.id, product.title, itself)
        categories = list(product.categories)
        yield product.id, example | {"details": product.text, "categories": categories}


def _example(identifier: str, text: str, products: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": identifier, "text": text, "details": "", "categories": [], "products": products}
