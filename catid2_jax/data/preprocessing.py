"""The paper's preprocessing (section 4.1): category depth, labels, test within training."""

import dataclasses
from collections.abc import Collection, Iterable, Iterator

from catid2_jax.data.queries import relevant_grades
from catid2_jax.errors import InputError
from catid2_jax.types import Product, Qrels


@dataclasses.dataclass(frozen=True)
class PreprocessingConfig:
    """What is kept of a data set; the defaults are the paper's.

    Attributes:
        minimum_depth: products with a shorter category path are dropped.
        maximum_depth: longer category paths lose the names beyond.
        training_labels: ESCI labels of the training pairs.
        relevant_labels: ESCI labels of the documents that a dev or test query should find; the
            paper does not say which it counts.
        test_seen_in_training: drops dev and test judgements on documents of no training pair.

    Raises:
        InputError: depths below 1 or out of order, or a label that ESCI does not have.
    """

    minimum_depth: int = 3
    maximum_depth: int = 3
    training_labels: tuple[str, ...] = ("E", "S")
    relevant_labels: tuple[str, ...] = ("E", "S")
    test_seen_in_training: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.minimum_depth <= self.maximum_depth:
            raise InputError(
                f"found minimum_depth {self.minimum_depth} and maximum_depth "
                f"{self.maximum_depth}, expected 1 <= minimum_depth <= maximum_depth"
            )
        relevant_grades(self.training_labels)
        relevant_grades(self.relevant_labels)


@dataclasses.dataclass
class PreprocessingCounts:
    """What the steps removed; each function below adds to it.

    Attributes:
        products_too_shallow: products with fewer than `minimum_depth` categories.
        products_truncated: products kept with a path cut to `maximum_depth`.
        training_on_dropped_products: training judgements on products that are not kept.
        training_not_relevant: training judgements with another label.
        training_queries_left_empty: training queries that have no pair left.
        heldout_on_dropped_products: dev or test judgements on products that are not kept.
        heldout_not_seen_in_training: dev or test judgements on documents of no training pair.
        heldout_queries_without_relevant: dev or test queries with no relevant document left.
    """

    products_too_shallow: int = 0
    products_truncated: int = 0
    training_on_dropped_products: int = 0
    training_not_relevant: int = 0
    training_queries_left_empty: int = 0
    heldout_on_dropped_products: int = 0
    heldout_not_seen_in_training: int = 0
    heldout_queries_without_relevant: int = 0


def preprocess_products(
    products: Iterable[Product], config: PreprocessingConfig, counts: PreprocessingCounts
) -> Iterator[Product]:
    """Streams the products deep enough in the category tree, their paths cut to one depth.

    Args:
        products: the catalogue.
        config: the depths.
        counts: gets the products dropped and cut, as the stream is read.
    """
    for product in products:
        depth = len(product.categories)
        if depth < config.minimum_depth:
            counts.products_too_shallow += 1
        elif depth > config.maximum_depth:
            counts.products_truncated += 1
            categories = product.categories[: config.maximum_depth]
            yield dataclasses.replace(product, categories=categories)
        else:
            yield product


def preprocess_training(
    qrels: Qrels,
    document_ids: Collection[str],
    config: PreprocessingConfig,
    counts: PreprocessingCounts,
) -> Qrels:
    """The training pairs: relevant judgements on the products kept.

    Args:
        qrels: judgements of the training queries.
        document_ids: ids of the products kept.
        config: the training labels.
        counts: gets what is removed.

    Returns:
        New judgements; queries without any left are gone.
    """
    kept = keep_documents(qrels, document_ids)
    pairs = keep_grades(kept, relevant_grades(config.training_labels))
    counts.training_on_dropped_products += count_judgements(qrels) - count_judgements(kept)
    counts.training_not_relevant += count_judgements(kept) - count_judgements(pairs)
    counts.training_queries_left_empty += len(qrels) - len(pairs)
    return pairs


def preprocess_heldout(
    qrels: Qrels,
    training: Qrels,
    document_ids: Collection[str],
    config: PreprocessingConfig,
    counts: PreprocessingCounts,
) -> Qrels:
    """The dev or test judgements: all grades, on products kept and seen in training.

    Args:
        qrels: judgements of the dev or test queries.
        training: the pairs that `preprocess_training` gave.
        document_ids: ids of the products kept.
        config: the relevant labels, and whether documents must be seen in training.
        counts: gets what is removed.

    Returns:
        New judgements; every query left has a relevant document.
    """
    kept = keep_documents(qrels, document_ids)
    seen = (
        keep_documents(kept, judged_documents(training)) if config.test_seen_in_training else kept
    )
    answerable = keep_grades(seen, relevant_grades(config.relevant_labels)).keys()
    counts.heldout_on_dropped_products += count_judgements(qrels) - count_judgements(kept)
    counts.heldout_not_seen_in_training += count_judgements(kept) - count_judgements(seen)
    counts.heldout_queries_without_relevant += len(qrels) - len(answerable)
    return {query: grades for query, grades in seen.items() if query in answerable}


def keep_documents(qrels: Qrels, document_ids: Collection[str]) -> Qrels:
    """The judgements on `document_ids`; queries left with none are gone."""
    known = frozenset(document_ids)
    return _without_empty(
        {
            query: {document: grade for document, grade in grades.items() if document in known}
            for query, grades in qrels.items()
        }
    )


def keep_grades(qrels: Qrels, grades: Collection[int]) -> Qrels:
    """The judgements with one of `grades`; queries left with none are gone."""
    return _without_empty(
        {
            query: {document: grade for document, grade in judged.items() if grade in grades}
            for query, judged in qrels.items()
        }
    )


def judged_documents(qrels: Qrels) -> frozenset[str]:
    """The documents that some query has a judgement on."""
    return frozenset(document for grades in qrels.values() for document in grades)


def count_judgements(qrels: Qrels) -> int:
    """The number of query-document pairs."""
    return sum(len(grades) for grades in qrels.values())


def _without_empty(qrels: Qrels) -> Qrels:
    return {query: grades for query, grades in qrels.items() if grades}
