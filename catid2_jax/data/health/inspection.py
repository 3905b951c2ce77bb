"""Computes the figures of a data set and finds what is odd in them."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from catid2_jax.data.health.catalog import catalog_figures, scan_catalog
from catid2_jax.data.health.findings import Finding, find
from catid2_jax.data.health.queries import (
    Split,
    between_splits,
    label_figures,
    query_figures,
    relevant_pairs,
    unseen_in_training,
)
from catid2_jax.data.health.text import EXAMPLES, Cases
from catid2_jax.data.preprocessing import PreprocessingConfig
from catid2_jax.types import Product


@dataclasses.dataclass(frozen=True)
class Health:
    """The findings and figures of a data set.

    Attributes:
        findings: what is odd, worst first.
        figures: nested dictionaries that JSON can hold: `rejected` (records of the catalogue that
            cannot be read), `catalog` (see `catalog_figures`), `splits` (split -> `query_figures`
            and `label_figures` in one), `between` (see `between_splits`) and `unseen` (see
            `unseen_in_training`). Each `Cases` has become a `count` and `examples`.
    """

    findings: tuple[Finding, ...]
    figures: dict[str, Any]


def inspect_data(
    products: Iterable[Product],
    splits: Mapping[str, Split],
    config: PreprocessingConfig,
    errors: Callable[[], Iterable[str]] = tuple,
) -> Health:
    """Inspects a whole data set in one pass over its catalogue.

    Args:
        products: the catalogue before preprocessing, streamed.
        splits: some or all of "train", "dev" and "test", in this order.
        config: the preprocessing to come, which decides what is odd.
        errors: returns one message per record of the catalogue that cannot be read; called once
            all products have been streamed.
    """
    judged = {d for split in splits.values() for grades in split.qrels.values() for d in grades}
    pairs = {name: relevant_pairs(name, split.qrels, config) for name, split in splits.items()}
    trained = {d for grades in pairs.get("train", {}).values() for d in grades}
    texts = {form for split in splits.values() for form in split.forms().values() if form}
    scan = scan_catalog(products, judged, trained, texts)
    messages = iter(errors())
    first = list(itertools.islice(messages, EXAMPLES))
    rejected = Cases(len(first) + sum(1 for _ in messages), first)
    figures = _plain(
        {
            "rejected": rejected,
            "catalog": catalog_figures(scan),
            "splits": {
                name: query_figures(split, scan) | label_figures(split, pairs[name], scan)
                for name, split in splits.items()
            },
            "between": between_splits(splits, pairs),
            "unseen": unseen_in_training(splits, pairs, scan.judged),
        }
    )
    return Health(find(figures, config), figures)


def _plain(value: Any) -> Any:
    if isinstance(value, Cases):
        return dataclasses.asdict(value)
    return {name: _plain(v) for name, v in value.items()} if isinstance(value, dict) else value
