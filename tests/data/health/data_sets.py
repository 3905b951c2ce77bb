"""A data set with nothing odd in it, into which tests plant oddities."""

import dataclasses

from catid2_jax.data.health.inspection import Split, inspect_data
from catid2_jax.data.preprocessing import PreprocessingConfig
from catid2_jax.types import Product, Query

WORDS = ("mug", "pen", "lamp", "chair", "scarf", "spoon", "clock", "towel")
COLOURS = ("blue", "red", "green", "white", "black", "brown", "yellow", "silver", "pink", "grey")
SENTENCE = "This is a very good {} for the whole family, made of the best material we could find"


def clean_products():
    """80 products in 2 x 2 x 2 categories."""
    return [
        Product(
            f"p{w}{c}",
            f"A {colour} {word} for the house",
            SENTENCE.format(word) + ", and it comes in a box" * (c % 3 + 1) + f" with {colour}",
            (f"Top {'AB'[w // 4]}", f"Middle {'CDEF'[w // 2]}", f"Leaf {'GHIJKLMN'[w]}"),
            {"brand": f"Maker {w}"},
        )
        for w, word in enumerate(WORDS)
        for c, colour in enumerate(COLOURS)
    ]


def clean_splits():
    """Every product has its own training query; every 5th one of dev, every 2nd one of test."""
    splits = {}
    for split, every in (("train", 1), ("dev", 5), ("test", 2)):
        products = clean_products()[::every]
        queries = [
            Query(f"{split}{p.id}", f"{split} {p.title.split()[1]} {p.title.split()[2]}")
            for p in products
        ]
        qrels = {f"{split}{p.id}": {p.id: 3} for p in products}
        splits[split] = Split(queries, qrels)
    return splits


def health(products=None, splits=None, **options):
    config = PreprocessingConfig(**options)
    products = clean_products() if products is None else products
    return inspect_data(products, clean_splits() if splits is None else splits, config)


def with_product(place=0, **fields):
    """Returns the clean products, one of them with other fields."""
    products = clean_products()
    products[place] = dataclasses.replace(products[place], **fields)
    return products


def findings(*arguments, **options):
    """Returns (severity, what, count) of each finding."""
    return [(f.severity, f.what, f.count) for f in health(*arguments, **options).findings]
