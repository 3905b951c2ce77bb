"""The progress lines in a log: units done, seconds passed, seconds left."""

import io
import types

import pytest
from rich.console import Console

from catid2_jax import progress


@pytest.fixture
def log(monkeypatch):
    """Provides a console that is no terminal, and a clock that the test moves."""
    text, clock = io.StringIO(), [100.0]
    monkeypatch.setattr(progress, "console", Console(file=text, width=120, highlight=False))
    # In this module alone: the event loops of other threads go by the same clock.
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    return text, clock


def test_a_line_now_and_then_and_one_at_the_end(log):
    text, clock = log
    with progress.Progress("training", total=100) as bar:
        for _ in range(10):
            clock[0] += 4
            bar.advance(10, {"loss": 0.125})
    # A line at least 10 s after the last one: at 12, 24 and 36 s; the end at 40 s.
    assert text.getvalue().splitlines() == [
        "training: 30/100, 12 s, 28 s left  loss 0.125",
        "training: 60/100, 24 s, 16 s left  loss 0.125",
        "training: 90/100, 36 s, 4 s left  loss 0.125",
        "training: 100/100, 40 s  loss 0.125",
    ]


def test_a_resumed_work_counts_its_own_speed(log):
    text, clock = log
    with progress.Progress("training", total=100, done=70) as bar:
        clock[0] += 4
        bar.advance(5)
        clock[0] += 10
        bar.advance(5)
        bar.advance(20)
    assert text.getvalue().splitlines()[0] == "training: 80/100, 14 s, 40 s left"


def test_what_comes_before_the_first_units_does_not_count(log):
    """The first step compiles: what is left is that of the later ones."""
    text, clock = log
    with progress.Progress("training", total=100) as bar:
        clock[0] += 60
        bar.advance(10)
        clock[0] += 12
        bar.advance(10)
        bar.advance(80)
    assert text.getvalue().splitlines()[:2] == [
        "training: 10/100, 60 s",
        "training: 20/100, 72 s, 96 s left",
    ]


def test_the_end_is_said_once(log):
    text, clock = log
    with progress.Progress("embedding", total=10) as bar:
        clock[0] += 12
        bar.advance(10)
    assert text.getvalue().splitlines() == ["embedding: 10/10, 12 s"]


def test_track_yields_every_item(log):
    assert list(progress.track(iter("abc"), "reading", 3)) == list("abc")
    assert log[0].getvalue().startswith("reading: 3/3")


def test_a_failure_is_not_shown_as_an_end(log):
    with pytest.raises(ZeroDivisionError), progress.Progress("work", total=2):
        _ = 1 / 0
    assert log[0].getvalue() == ""
