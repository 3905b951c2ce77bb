"""The training pairs of stage 2 and their weights, for the native trainer and for seqio alike.

There are pairs of four kinds: a query and an exact product, a query and a substitute (any lesser
grade that preprocessing left in the training judgements), a product's own source (its title, or its
vector) and itself, and, for the native trainer, a pseudo-query of a product and that product. A
kind's weight is that of each of its pairs in the loss. seqio, which draws kinds at a rate instead,
draws each in proportion to the sum of its pairs' weights.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from catid2_jax.errors import InputError
from catid2_jax.types import GRADES, Qrels

_PSEUDO_QUERY_WORDS = 5


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

    def with_sources(self, first: int, documents: np.ndarray, weight: float) -> "Pairs":
        """Adds a pair for each of further sources.

        Args:
            first: row of the first of them.
            documents: row of the document of each, int [F].
            weight: weight of each pair.
        """
        count = len(documents)
        return Pairs(
            np.append(self.source, np.arange(first, first + count, dtype=np.int32)),
            np.append(self.document, documents.astype(np.int32)),
            np.append(self.weight, np.full(count, weight, np.float32)),
        )


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


def pseudo_queries(
    titles: Sequence[str], count: int, generator: np.random.Generator
) -> tuple[list[str], np.ndarray]:
    """Draws runs of consecutive words of each title, as what somebody might search for.

    They stand for NCI's pseudo-queries (Wang et al., 2022), which a network makes of documents.

    Args:
        titles: N titles; one of a single word has no pseudo-query.
        count: pseudo-queries of a title, fewer where it has no more different ones.
        generator: what draws them.

    Returns:
        (texts of 1 to 5 words and fewer than the title has, of one title all different; the row of
        the title of each, int [F]).
    """
    texts: list[str] = []
    rows: list[int] = []
    for row, title in enumerate(titles):
        words = title.split()
        longest = min(_PSEUDO_QUERY_WORDS, len(words) - 1)
        runs = {
            " ".join(words[start : start + length]): None
            for length in range(1, longest + 1)
            for start in range(len(words) - length + 1)
        }
        chosen = generator.choice(len(runs), min(count, len(runs)), replace=False) if runs else ()
        every = list(runs)
        texts += [every[number] for number in chosen]
        rows += [row] * len(chosen)
    return texts, np.array(rows, np.int64)
