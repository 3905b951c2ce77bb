"""What an example is: a text, and the products that it asks for.

The text is a query, judged in the splits `train`, `validation` and `test`, or in the split
`catalog` a product's title, which asks for that product. So one reader serves both of stage 2's
tasks.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import tensorflow_datasets as tfds

from catid2_jax.types import GRADES, Product, Qrels, Query

SPLITS: Mapping[str, str] = {"train": "train", "validation": "dev", "test": "test"}
"""Name of a split of queries here -> the one in the names of files."""

CATALOG = "catalog"
"""Name of the split of products."""

Examples: TypeAlias = Iterator[tuple[str, dict[str, Any]]]

_LABELS = sorted(GRADES, key=GRADES.__getitem__)  # so that a label's number is its grade


def features() -> tfds.features.FeaturesDict:
    """The features of all splits.

    - `id`: of the query or the product.
    - `text`: the query, or the product's title.
    - `details`: the product's further text; "" for a query.
    - `categories`: the product's category path, root first; empty for a query.
    - `products`: `id` and `grade` (I, C, S, E as 0 to 3) of each product judged for the query, in
      the order of the judgements; for a product, itself with E.
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
    """An example for every query that has a judgement, by its id."""
    for query in queries:
        if query.id in qrels:
            judged = [{"id": i, "grade": grade} for i, grade in qrels[query.id].items()]
            yield query.id, _example(query.id, query.text, judged)


def product_examples(products: Iterable[Product]) -> Examples:
    """An example for every product, by its id."""
    for product in products:
        itself = [{"id": product.id, "grade": GRADES["E"]}]
        example = _example(product.id, product.title, itself)
        categories = list(product.categories)
        yield product.id, example | {"details": product.text, "categories": categories}


def _example(identifier: str, text: str, products: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": identifier, "text": text, "details": "", "categories": [], "products": products}
