"""Computes the figures of the paper's Table 1 for any data set."""

from collections.abc import Mapping

from rich.table import Table

from catid2_jax.data.category_tree import category_ids, nodes_per_level
from catid2_jax.data.preprocessing import count_judgements
from catid2_jax.types import Qrels


def dataset_statistics(
    category_paths: Mapping[tuple[str, ...], int],
    qrels: Mapping[str, Qrels],
) -> dict[str, int]:
    """Counts documents, queries, query-document pairs and category nodes.

    Args:
        category_paths: category path, root first -> number of its documents.
        qrels: split ("train", "dev", "test") -> relevant pairs.

    Returns:
        `documents`; `<split>_queries` and `<split>_pairs` of each split; `categories_level_1` and
        so on, down to the end of the longest path.
    """
    statistics = {"documents": sum(category_paths.values())}
    for split, judgements in qrels.items():
        statistics[f"{split}_queries"] = len(judgements)
        statistics[f"{split}_pairs"] = count_judgements(judgements)
    depth = max(map(len, category_paths), default=0)
    levels = nodes_per_level(category_ids(list(category_paths), depth)) if depth else []
    for level, count in enumerate(levels, 1):
        statistics[f"categories_level_{level}"] = count
    return statistics


def statistics_table(statistics: Mapping[str, int], name: str) -> Table:
    """Formats the figures of `dataset_statistics`, one per row, under the data set's `name`."""
    table = Table("statistic")
    table.add_column(name, justify="right")
    for key, count in statistics.items():
        table.add_row(key.replace("_", " "), f"{count:,}")
    return table
