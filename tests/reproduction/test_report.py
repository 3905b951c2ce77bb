"""Tables of figures that are written out here."""

import csv
import dataclasses
import io
import itertools

import numpy as np
import pytest

from catid2_jax.evaluation.significance import bootstrap
from catid2_jax.reproduction.grids import Grid
from catid2_jax.reproduction.report import (
    differences,
    paper_set,
    tables,
    to_csv,
    to_latex,
    to_markdown,
)
from catid2_jax.reproduction.runs import Measured

RNG = np.random.default_rng(0)
Q = 40
GRID = Grid("table2", "all systems", ("cat_id2", "tiger", "bm25"), "cat_id2", (5, 10), (10,))


def measured(system, label, seeds, base, paper=(), wanted=0):
    recall = {k: base + RNG.uniform(0, k, (seeds, Q)) for k in (5, 10)}
    trained = {"docids": 30.0, "train_seq2seq": 3570.0} if seeds > 1 else {}
    seconds = {**trained, "retrieve": 7.0}
    memory = {step: 2.0**30 * (1 + number) for number, step in enumerate(seconds)}
    return Measured(system, label, seeds, max(seeds, wanted), recall, dict(paper), seconds, memory)


ROWS = (
    measured("cat_id2", "CAT-ID2", 3, 30, {"us": {5: 3.64, 10: 5.86}, "jp": {5: 4.9}}),
    measured("tiger", "TIGER & co_1", 2, 29),
    measured("bm25", "BM25", 1, 20, {"us": {10: 5.68}}),
)


def closed_tests(p_values, test):
    """The largest Bonferroni p-value of all sets of tests that one is in (Marcus et al., 1976)."""
    others = [i for i in range(len(p_values)) if i != test]
    sets = (
        [test, *found]
        for n in range(len(others) + 1)
        for found in itertools.combinations(others, n)
    )
    return max(min(1.0, len(found) * min(p_values[i] for i in found)) for found in sets)


def test_the_reference_is_tested_against_each_system():
    """Over the seeds that both have; a system without a seed stands for each."""
    tiger, bm25 = (row.recall[10] for row in ROWS[1:])
    ours = ROWS[0].recall[10]
    expected = [bootstrap(ours[:2] - tiger), bootstrap(ours - np.repeat(bm25, 3, axis=0))]
    found = differences(GRID, ROWS)
    assert [(test.system, test.k, test.found) for test in found] == [
        ("tiger", 10, expected[0]),
        ("bm25", 10, expected[1]),
    ]
    p_values = [test.p_value for test in expected]
    assert [test.adjusted for test in found] == [closed_tests(p_values, i) for i in range(2)]
    assert differences(GRID, ROWS[1:]) == []


def test_one_seed_of_several_stands_for_itself_alone():
    tiger = measured("tiger", "TIGER", 1, 29, wanted=3)
    (found,) = differences(GRID, (ROWS[0], tiger))
    assert found.found == bootstrap(ROWS[0].recall[10][:1] - tiger.recall[10])
    (found,) = differences(GRID, (dataclasses.replace(tiger, system="cat_id2"), ROWS[2]))
    assert found.found == bootstrap(tiger.recall[10] - ROWS[2].recall[10])


def spread(values):
    means = [float(np.mean(row)) for row in values]
    total = sum(means) / len(means)
    deviation = (sum((m - total) ** 2 for m in means) / (len(means) - 1)) ** 0.5
    return f"{total:.1f} ± {deviation:.1f}"


def test_recall_stands_beside_the_paper_s():
    table, tested, timed = tables("uktariff", GRID, ROWS)
    assert table.columns == ("", "R@5", "paper", "R@10", "paper")
    ours, tiger, bm25 = table.rows
    assert ours[:4] == ("CAT-ID2", spread(ROWS[0].recall[5]), "3.64", spread(ROWS[0].recall[10]))
    assert (ours[4], bm25[2], bm25[4], tiger[2]) == ("5.86", "", "5.68", "")
    assert bm25[1] == f"{ROWS[2].recall[5].mean():.1f}"
    assert [row[0] for row in tested.rows] == ["TIGER & co_1", "BM25"]
    assert tested.rows[1][1].startswith(f"{differences(GRID, ROWS)[1].found.mean:+.1f} (+")
    assert timed.columns == (
        *("", "IDs, s", "network, s", "search, s", "training, h", "memory, GiB", "paper, h (A100)"),
    )
    assert timed.rows[0] == ("CAT-ID2", "30", "3570", "7", "1.00", "3.0", "24.8")
    assert timed.rows[2] == ("BM25", "", "", "7", "", "1.0", "")
    assert "seeds so far" not in table.title
    late = (*ROWS[1:], measured("cost", "CoST", 2, 25, wanted=4))
    assert tables("x", GRID, late)[0].title.endswith(" (seeds so far: CoST 2 of 4)")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("esci_us", "us"), ("ESCI-jp", "jp"), ("es", "es"), ("tes", "us"), ("uktariff", "us")],
)
def test_the_paper_s_set_is_that_of_the_same_language(name, expected):
    assert paper_set(name) == expected
    table = tables(name, GRID, ROWS)[0]
    assert table.columns.count("paper") == {"us": 2, "jp": 1}.get(expected, 0)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    paper = table.rows[0][2]
    assert paper == {"us": "3.64", "jp": "4.90"}.get(expected, spread(ROWS[0].recall[10]))


def test_markdown_and_latex_have_the_cells():
    found = tables("uktariff", GRID, ROWS)
    markdown = to_markdown(found)
    lines = [line for line in markdown.splitlines() if line.startswith("| CAT-ID2")]
    cells = [tuple(cell.strip() for cell in line.strip("| ").split(" | ")) for line in lines]
    assert cells == [found[0].rows[0], found[2].rows[0]]
    latex = to_latex(found)
    assert r"TIGER \& co\_1 & " in latex
    assert spread(ROWS[0].recall[5]).replace("±", r"$\pm$") in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\bottomrule") == 3
    for line in latex.splitlines():
        if line.endswith(r"\\") and "R@5" in line:
            assert line.count("&") == 4


def test_csv_has_every_figure():
    lines = list(csv.DictReader(io.StringIO(to_csv(GRID, {"uktariff": ROWS}))))
    found = {(line["system"], line["measure"]): line for line in lines}
    assert len(found) == len(lines) == 3 * 2 + 2 * 2 * 3 + 2
    ours = found["cat_id2", "recall@10"]
    means = ROWS[0].recall[10].mean(axis=1)
    assert float(ours["mean"]) == pytest.approx(means.mean())
    assert float(ours["standard_deviation"]) == pytest.approx(np.std(means, ddof=1))
    assert (ours["data"], ours["seeds"], ours["paper"]) == ("uktariff", "3", "5.86")
    assert (ours["difference"], ours["p_value_adjusted"]) == ("", "")
    bm25, test = found["bm25", "recall@10"], differences(GRID, ROWS)[1]
    assert bm25["standard_deviation"] == ""
    assert float(bm25["low"]) == pytest.approx(test.found.low)
    assert float(bm25["p_value_adjusted"]) == pytest.approx(test.adjusted)
    assert float(found["tiger", "seconds/train_seq2seq"]["mean"]) == 3570
    assert float(found["tiger", "bytes/retrieve"]["mean"]) == 3 * 2**30
