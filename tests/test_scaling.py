"""The collectives that a training step issues, by the HLO; none may be added unseen."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

COLLECTIVES = {"RQ-VAE": (8, 15, 0, 0, 0), "seq2seq": (2, 0, 0, 0, 0)}
"""Per step on several devices, in the order of KINDS; docs/scaling.md says what each is for."""


def table(text):
    """The cells of the rows of a Markdown table, but for its two lines of head."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


def printed(*arguments):
    command = [sys.executable, ROOT / "benchmarks" / "scaling.py", *arguments, "--tiny"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=500
    ).stdout


@pytest.mark.slow
def test_collectives_of_a_step():
    rows = table(printed("collectives", "--devices", "1", "2"))
    assert [(row[0], row[2]) for row in rows] == [
        ("RQ-VAE", "1"),
        ("RQ-VAE", "2"),
        ("seq2seq", "1"),
        ("seq2seq", "2"),
    ]
    for name, _, devices, _, *cells in rows:
        counts = tuple(int(cell) for cell in cells[::2])
        assert counts == (COLLECTIVES[name] if devices == "2" else (0,) * len(KINDS)), name


@pytest.mark.slow
def test_the_shapes_grow_with_the_documents():
    """What a device holds of a document: its vectors and categories, or its node of the trie."""
    small, large = (table(printed("shapes", "--documents", n)) for n in ("1000000", "2000000"))
    names = [row[0] for row in small]
    assert len(names) == len(set(names)) == 9
    for first, second in zip(small, large, strict=True):
        grown = float(second[2]) - float(first[2])
        assert (grown > 0) == bool(re.fullmatch(r"[\d,]+", first[1])), first[0]
    place = names.index("RQ-VAE step, data on the device")
    a_document = 2 * 4 * 8 + 4 * 3 + 1  # two vectors of 8, three categories, a flag
    assert float(large[place][2]) - float(small[place][2]) == pytest.approx(a_document / 1e3, 0.05)
