"""The paper's preprocessing (section 4.1): category depth, labels, documents seen in training."""

import dataclasses
from collections.abc import Collection, Iterable, Iterator

from catid2_jax.constraints import PositiveInt, check_fields
from catid2_jax.data.queries import relevant_grades
from catid2_jax.errors import InputError
from catid2_jax.types import Product, Qrels


@dataclasses.dataclass(frozen=True)
class PreprocessingConfig:
    """Rules for what is kept of a data set; the defaults are the paper's.

    Attributes:
        minimum_depth: fewest categories in a product's path; products with fewer are dropped.
        maximum_depth: most categories in a product's path; longer paths are cut to this depth.
        training_labels: ESCI labels of the judgements that become training pairs.
        relevant_labels: ESCI labels of the documents that a dev or test query should find; the
            paper does not say which it counts.
        test_seen_in_training: whether to drop dev and test judgements on documents that are in no
            training pair.

    Raises:
        InputError: depths below 1 or out of order, no labels, or a label that ESCI does not have.
    """

    minimum_depth: PositiveInt = 3
    maximum_depth: PositiveInt = 3
    training_labels: tuple[str, ...] = ("E", "S")
    relevant_labels: tuple[str, ...] = ("E", "S")
    test_seen_in_training: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        if self.minimum_depth > self.maximum_depth:
            raise InputError(
                "minimum_depth",
                self.minimum_depth,
                f"at most maximum_depth, which is {self.maximum_depth}",
            )
        relevant_grades(self.training_labels, "training_labels")
        relevant_grades(self.relevant_labels, "relevant_labels")


@dataclasses.dataclass
class PreprocessingCounts:
    """Numbers of what preprocessing removed; each function below adds to them.

    Attributes:
        products_too_shallow: products with fewer than `minimum_depth` categories.
        products_truncated: products kept with a path cut to `maximum_depth`.
        training_on_dropped_products: training judgements on products that are not kept.
        training_not_relevant: training judgements with a label outside `training_labels`.
        training_queries_left_empty: training queries without a pair left.
        heldout_on_dropped_products: dev or test judgements on products that are not kept.
        heldout_not_seen_in_training: dev or test judgements on documents in no training pair.
        heldout_queries_without_relevant: dev or test queries without a relevant document left.
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
    """Yields the products whose category path is deep enough, cut to the maximum depth.

    Args:
        products: the catalogue.
        config: rules, of which the two depths apply.
        counts: receives the numbers of products dropped and cut, while the result is read.
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
    """Selects the training pairs: judgements with a training label on the products kept.

    Args:
        qrels: judgements of the training queries.
        document_ids: ids of the products kept.
        config: rules, of which the training labels apply.
        counts: receives the numbers of what is removed.

    Returns:
        New judgements, without the queries that have none left.
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
    """Selects the dev or test judgements: all grades, on products kept and seen in training.

    Args:
        qrels: judgements of the dev or test queries.
        training: training pairs, the result of `preprocess_training`.
        document_ids: ids of the products kept.
        config: rules, of which the relevant labels and `test_seen_in_training` apply.
        counts: receives the numbers of what is removed.

    Returns:
        New judgements, without the queries that have no relevant document left.
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
    """Selects the judgements on `document_ids`; queries without any are left out."""
    known = frozenset(document_ids)
    return _without_empty(
        {
            query: {document: grade for document, grade in grades.items() if document in known}
            for query, grades in qrels.items()
        }
    )


def keep_grades(qrels: Qrels, grades: Collection[int]) -> Qrels:
    """Selects the judgements with one of `grades`; queries without any are left out."""
    return _without_empty(
        {
            query: {document: grade for document, grade in judged.items() if grade in grades}
            for query, judged in qrels.items()
        }
    )


def judged_documents(qrels: Qrels) -> frozenset[str]:
    """Returns the documents that are judged for some query."""
    return frozenset(document for grades in qrels.values() for document in grades)


def count_judgements(qrels: Qrels) -> int:
    """Counts the query-document pairs."""
    return sum(len(grades) for grades in qrels.values())


def _without_empty(qrels: Qrels) -> Qrels:
    return {query: grades for query, grades in qrels.items() if grades}
