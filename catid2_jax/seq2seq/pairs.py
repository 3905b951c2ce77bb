"""The training pairs of stage 2 and their weights, for the native trainer and for seqio alike.

There are pairs of three kinds: a query and an exact product, a query and a substitute (any lesser
grade that preprocessing left in the training judgements), and a product's own source (its title, or
its vector) and itself. A kind's weight is that of each of its pairs in the loss. seqio, which draws
kinds at a rate instead, draws each in proportion to the sum of its pairs' weights.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from catid2_jax.errors import InputError
from catid2_jax.types import GRADES, Qrels


@dataclasses.dataclass(frozen=True)
class PairWeights:
    """Weight in the loss of the kinds of pairs; a query and an exact product have 1.

    Attributes:
        title: weight of a product's own source -> its ID. From these the network learns products
            that no training query finds; 0 for the paper's pairs alone.
        substitute: weight of query -> ID for products that are not exact.
    """

    title: float = 1.0
    substitute: float = 1.0

    def __post_init__(self) -> None:
        for name in ("title", "substitute"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}_weight", getattr(self, name), "at least 0")

    def of_grade(self, grade: int) -> float:
        """Weight of a query's pair with a product of this grade."""
        return 1.0 if grade >= GRADES["E"] else self.substitute


@dataclasses.dataclass(frozen=True)
class Pairs:
    """P pairs of a source and a document.

    Attributes:
        source: int32 [P]: rows of the queries, then of the products, Q + n for product n.
        document: int32 [P], rows of the catalogue.
        weight: float32 [P].
    """

    source: np.ndarray
    document: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.source)


def query_pairs(
    query_ids: Sequence[str], qrels: Qrels, weights: PairWeights
) -> Iterator[tuple[int, str, float]]:
    """(row of the query, product id, weight) of every judgement of a weight above 0."""
    for row, query in enumerate(query_ids):
        for product, grade in qrels[query].items():
            weight = weights.of_grade(grade)
            if weight > 0:
                yield row, product, weight


def training_pairs(
    query_ids: Sequence[str], qrels: Qrels, rows: Mapping[str, int], weights: PairWeights
) -> Pairs:
    """All pairs of a weight above 0: those of the queries, then the products with themselves.

    Args:
        query_ids: the training queries, in the order of their sources.
        qrels: their judgements.
        rows: product id -> row of the catalogue, in the order of the rows.
        weights: the weight of each kind.

    Raises:
        InputError: no pair is left.
    """
    pairs = [(row, rows[product], w) for row, product, w in query_pairs(query_ids, qrels, weights)]
    if weights.title:
        pairs += [(len(query_ids) + n, n, weights.title) for n in range(len(rows))]
    if not pairs:
        raise InputError(
            "training pairs", "none with a weight", "some: raise title_weight or substitute_weight"
        )
    source, document, weight = zip(*pairs, strict=True)
    return Pairs(
        np.array(source, np.int32), np.array(document, np.int32), np.array(weight, np.float32)
    )
