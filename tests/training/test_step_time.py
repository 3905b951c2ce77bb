"""The parts of a step's time by a clock that the test moves."""

import types

import pytest

from catid2_jax.training import step_time
from catid2_jax.training.step_time import StepClock


@pytest.fixture
def now(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(step_time, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    return now


def test_every_second_counts_for_one_part_and_for_one_interval(now):
    clock = StepClock()
    for part, seconds in (("input", 1), ("host", 2), ("device", 4), ("input", 8), ("host", 16)):
        now[0] += seconds
        clock.lap(part)
    assert clock.take(4) == {"time/input": 9 / 4, "time/host": 18 / 4, "time/device": 4 / 4}
    now[0] += 3
    clock.lap("device")
    assert clock.take(2) == {"time/input": 0, "time/host": 0, "time/device": 3 / 2}


def test_what_is_no_part_of_a_step_counts_for_nothing(now):
    clock = StepClock()
    now[0] += 100
    clock.skip()
    now[0] += 1
    clock.lap("host")
    assert clock.take(1) == {"time/input": 0, "time/host": 1, "time/device": 0}


def test_an_interval_that_is_void_says_nothing_and_the_next_one_does(now):
    clock = StepClock()
    clock.void()
    now[0] += 100
    clock.lap("host")
    assert clock.take(1) == {}
    now[0] += 1
    clock.lap("host")
    assert clock.take(1) == {"time/input": 0, "time/host": 1, "time/device": 0}
