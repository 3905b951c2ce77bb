"""A data set's health before anyone trains on it: figures, and what is odd in them."""

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
    """What `inspect_data` found.

    Attributes:
        findings: worst first.
        figures: nested, ready for JSON: `rejected` (records of the catalogue), `catalog` (see
            `catalog_figures`), `splits` (per split, `query_figures` and `label_figures` together),
            `between` (see `between_splits`) and `unseen` (see `unseen_in_training`). What is odd
            has a `count` and `examples`.
    """

    findings: tuple[Finding, ...]
    figures: dict[str, Any]


def inspect_data(
    products: Iterable[Product],
    splits: Mapping[str, Split],
    config: PreprocessingConfig,
    errors: Callable[[], Iterable[str]] = tuple,
) -> Health:
    """Looks at a whole data set, in one pass over its catalogue.

    Args:
        products: the catalogue as given, streamed.
        splits: "train" first, then "dev" and "test", or some of them.
        config: what preprocessing will do, which decides what is odd.
        errors: what is wrong with each record that could not be read; called once the catalogue
            has been streamed.
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
