"""The figures of the paper's Table 1, for any data set."""

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from catid2_jax.data.category_tree import category_ids, nodes_per_level
from catid2_jax.data.preprocessing import count_judgements, keep_grades
from catid2_jax.data.queries import relevant_grades
from catid2_jax.types import Qrels


def dataset_statistics(
    category_paths: Sequence[Sequence[str]],
    qrels: Mapping[str, Qrels],
    relevant_labels: Iterable[str] = ("E", "S"),
) -> dict[str, int]:
    """Counts documents, queries, relevant pairs and category nodes.

    Args:
        category_paths: the category path of each document, root first.
        qrels: split ("train", "dev", "test") -> its judgements.
        relevant_labels: ESCI labels of the pairs that count.

    Returns:
        `documents`; per split `<split>_queries` (those with a relevant document) and
        `<split>_pairs`; `categories_level_1` and so on, down to the longest path.

    Raises:
        InputError: a label that ESCI does not have.
    """
    statistics = {"documents": len(category_paths)}
    grades = relevant_grades(relevant_labels)
    for split, judgements in qrels.items():
        relevant = keep_grades(judgements, grades)
        statistics[f"{split}_queries"] = len(relevant)
        statistics[f"{split}_pairs"] = count_judgements(relevant)
    depth = max(map(len, category_paths), default=0)
    levels = nodes_per_level(category_ids(category_paths, depth)) if depth else []
    for level, count in enumerate(levels, 1):
        statistics[f"categories_level_{level}"] = count
    return statistics


def statistics_table(statistics: Mapping[str, int], name: str) -> Table:
    """Lays the figures of `dataset_statistics` out, one per row, under the data set's `name`."""
    table = Table("statistic")
    table.add_column(name, justify="right")
    for key, count in statistics.items():
        table.add_row(key.replace("_", " "), f"{count:,}")
    return table
