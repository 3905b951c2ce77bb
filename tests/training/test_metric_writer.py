"""The curves as TensorBoard itself reads them."""

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from catid2_jax.training.metric_writer import MetricWriter, read_metrics


def curves(directory):
    """Every curve as [(step, value)]."""
    events = EventAccumulator(str(directory)).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_values_come_back_by_name_and_step_in_float32(tmp_path):
    with MetricWriter(tmp_path, 0) as writer:
        writer.write(5, {"loss": 0.1, "perplexity/level_1": 200.5})
        writer.write(10, {"loss": -1e-30})
        writer.write(2_000_000_000, {"loss": 3e30})
    assert curves(tmp_path) == {
        "loss": [
            (5, np.float32(0.1)),
            (10, np.float32(-1e-30)),
            (2_000_000_000, np.float32(3e30)),
        ],
        "perplexity/level_1": [(5, 200.5)],
    }
    assert read_metrics(tmp_path) == curves(tmp_path)


def test_a_resumed_run_replaces_what_was_written_after_its_checkpoint(tmp_path):
    with MetricWriter(tmp_path, 0) as writer:
        for step in (5, 10, 11, 20):
            writer.write(step, {"loss": float(step)})
    # A file's name holds the second of its opening, by which TensorBoard orders them.
    (file,) = tmp_path.iterdir()
    file.rename(tmp_path / "events.out.tfevents.1000000000.before")
    with MetricWriter(tmp_path, 11) as writer:
        writer.write(16, {"loss": 160.0})
    assert curves(tmp_path) == {"loss": [(5, 5.0), (10, 10.0), (16, 160.0)]}
    assert read_metrics(tmp_path) == curves(tmp_path)


@pytest.mark.parametrize("cut", [0, 1, 5, 14])
def test_restarts_leave_two_files_that_say_what_all_have_said(tmp_path, cut):
    """Whatever the last record of a killed run has come to."""
    for number, first in enumerate((0, 3, 5, 8)):
        with MetricWriter(tmp_path, first) as writer:
            for step in range(first, first + 4):
                writer.write(step, {"loss": 100.0 * number + step})
        newest = max(tmp_path.iterdir(), key=lambda path: (path.name != "old", path.name))
        newest.write_bytes(newest.read_bytes()[: -cut or None])
        # A file's name holds the second of its opening, by which TensorBoard orders them.
        newest.rename(tmp_path / f"events.out.tfevents.{1000000000 + number}.host")
    assert len(list(tmp_path.iterdir())) == 2
    expected = [(0, 0.0), (1, 1.0), (2, 2.0), (3, 103.0), (4, 104.0)]
    expected += [(5, 205.0), (6, 206.0), (7, 207.0)]
    expected += [(step, 300.0 + step) for step in (8, 9, 10, 11)]
    assert curves(tmp_path)["loss"] == expected[: len(expected) - bool(cut)]
    assert read_metrics(tmp_path) == curves(tmp_path)


@pytest.mark.parametrize("process", [0, 1])
def test_only_the_first_process_writes(tmp_path, monkeypatch, process):
    monkeypatch.setattr(jax, "process_index", lambda: process)
    with MetricWriter(tmp_path, 0) as writer:
        writer.write(1, {"loss": 1.0})
    assert len(list(tmp_path.iterdir())) == 1 - process
