import collections
import io

import rich.console

from catid2_jax.data.statistics import dataset_statistics, statistics_table

PATHS = [("Home", "Cups", "Blue"), ("Home", "Pens"), ("Office", "Pens"), ("Office", "Pens")]
QRELS = {
    "train": {"t1": {"a": 3, "b": 2}, "t2": {"a": 3}},
    "dev": {"d1": {"a": 2}},
    "test": {"s1": {"a": 3, "c": 2}},
}


def test_counts_worked_by_hand():
    assert dataset_statistics(collections.Counter(PATHS), QRELS) == {
        "documents": 4,
        "train_queries": 2,
        "train_pairs": 3,
        "dev_queries": 1,
        "dev_pairs": 1,
        "test_queries": 1,
        "test_pairs": 2,
        "categories_level_1": 2,
        "categories_level_2": 3,
        "categories_level_3": 1,
    }


def test_no_document_has_no_level():
    assert dataset_statistics({}, {}) == {"documents": 0}


def test_the_table_shows_every_figure():
    text = io.StringIO()
    table = statistics_table({"documents": 386392, "train_queries": 20001}, "ESCI-us")
    rich.console.Console(file=text, width=80).print(table)
    cells = [[cell.strip() for cell in line.split("│")] for line in text.getvalue().splitlines()]
    assert ["", "documents", "386,392", ""] in cells
    assert ["", "train queries", "20,001", ""] in cells
    assert "ESCI-us" in text.getvalue()
