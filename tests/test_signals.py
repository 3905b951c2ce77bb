"""Signals that come where Python ignores what is raised."""

import gc
import os
import signal
import time

import pytest

from catid2_jax import signals as module
from catid2_jax.signals import DeferredSignals, Interruption, Terminated, raised


class Dying:
    """Gets a signal while it is taken away."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)
        time.sleep(0)  # here the handler runs


def in_a_callback(number):
    def callback(phase, info):
        if phase == "start":
            os.kill(os.getpid(), number)
            time.sleep(0)

    gc.callbacks.append(callback)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(callback)


def in_a_destructor(number):
    Dying(number)


def send(where, number):
    where(number)
    time.sleep(5)


@pytest.mark.parametrize("where", [in_a_callback, in_a_destructor])
@pytest.mark.parametrize(
    ("number", "exception"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)],
)
def test_no_signal_is_lost(where, number, exception):
    with pytest.raises(exception), raised():
        send(where, number)


@pytest.mark.parametrize("where", [in_a_callback, in_a_destructor])
def test_no_signal_is_lost_that_acts_at_once(where):
    with (
        pytest.raises(KeyboardInterrupt),
        raised(),
        DeferredSignals() as signals,
        pytest.raises(Interruption),
        signals.at_once(),
    ):
        send(where, signal.SIGINT)


class DyingSlowly(Dying):
    def __del__(self):
        super().__del__()
        time.sleep(0.1)  # meanwhile the signal comes again, some times


def test_a_signal_that_comes_again_is_one_signal(monkeypatch):
    """However long the program is where nothing can be raised."""
    monkeypatch.setattr(module, "_SECOND", 0.0)
    received = []
    with (
        pytest.raises(KeyboardInterrupt),
        raised(),
        DeferredSignals() as signals,
        pytest.raises(Interruption),
        signals.at_once(),
    ):
        send(lambda number: DyingSlowly(number), signal.SIGINT)
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        time.sleep(0.1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not received
