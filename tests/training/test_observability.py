"""What a training tells of its time, its devices and their memory, and the traces of its steps."""

import dataclasses
import pathlib
import types

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.errors import InputError
from catid2_jax.progress import Progress
from catid2_jax.training import flops, loop, step_time
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.metric_writer import read_metrics
from catid2_jax.training.optimizer import TrainingConfig
from catid2_jax.training.sampler import EpochSampler


@flax.struct.dataclass
class Rows:
    values: np.ndarray

    def batch(self, indices):
        return self.values[indices]


DATA = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
CONFIG = TrainingConfig(batch_size=6, epochs=4, steps_per_dispatch=3, checkpoint_every=1000)
FLOPS = 2 * 6 * 3 * 4 + 2 * 3 * 6 * 4  # the product, and that of its weights' gradient


def step_function(state, batch):
    loss, gradient = jax.value_and_grad(lambda w: jnp.mean(jnp.square(batch @ w)))(state.params)
    return state.replace(params=state.params - 0.1 * gradient), {"loss": loss}


def run(directory, config=CONFIG, evaluator=None):
    with Checkpoints(directory) as checkpoints:
        return train(
            step_function,
            TrainState(jnp.int32(0), jnp.ones((3, 4)), ()),
            Rows(DATA),
            EpochSampler(20, 6, seed=0),
            config,
            checkpoints,
            "test",
            evaluator,
        )


def spend(monkeypatch, now, place, name, seconds):
    """Has a call take so many seconds more."""
    original = getattr(place, name)

    def slow(*arguments, **options):
        now[0] += seconds
        return original(*arguments, **options)

    monkeypatch.setattr(place, name, slow)


def test_the_curves_tell_time_operations_and_memory(tmp_path, monkeypatch):
    """Four dispatches of three steps, the curves' points after three of them; the first compiles.

    A dispatch's batches take 0.5 s, the display 0.25 s each of the two times, the metrics 2 s.
    """
    now = [0.0]
    monkeypatch.setattr(step_time, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    spend(monkeypatch, now, EpochSampler, "__call__", 0.5)
    spend(monkeypatch, now, Progress, "advance", 0.25)
    own = types.SimpleNamespace(asarray=np.asarray)
    spend(monkeypatch, now, own, "asarray", 2)
    monkeypatch.setattr(loop, "np", own)
    monkeypatch.setattr(flops, "PEAK_FLOPS", {jax.devices()[0].device_kind: 1000.0})
    monkeypatch.setattr(loop, "memory_figures", lambda: {"memory/in_use_gib": 1.5})

    def evaluator(state):
        now[0] += 100
        return {}

    run(tmp_path, dataclasses.replace(CONFIG, evaluate_every=6), evaluator)
    curves = read_metrics(tmp_path)
    # The next dispatch is made before the metrics of the one at 9 are read, and none at the others.
    seconds = {6: (0.0, 0.5, 2.0), 9: (1.0, 0.25, 2.0), 12: (0.0, 0.5, 2.0)}
    for column, part in enumerate(("input", "host", "device")):
        expected = [(step, parts[column] / 3) for step, parts in seconds.items()]
        assert curves[f"time/{part}"] == [(step, pytest.approx(s)) for step, s in expected]
    rates = [(step, FLOPS / (sum(parts) / 3)) for step, parts in seconds.items()]
    assert curves["compute/tflops"] == [(n, pytest.approx(1e-12 * rate)) for n, rate in rates]
    most = 1000.0 * jax.device_count()
    assert curves["compute/mfu"] == [(n, pytest.approx(rate / most)) for n, rate in rates]
    assert curves["memory/in_use_gib"] == [(step, 1.5) for step in (3, 6, 9, 12)]
    assert [step for step, _ in curves["loss"]] == [3, 6, 9, 12]


def traced_steps(folder):
    """First step of each dispatch in a trace."""
    (file,) = folder.glob("*.xplane.pb")
    return sorted(
        dict(event.stats)["step_num"]
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    )


def test_the_dispatches_of_the_named_steps_are_traced(tmp_path, capsys):
    """TensorBoard looks in `plugins/profile/RUN` beside the curves."""
    plain = run(tmp_path / "plain")
    state = run(tmp_path / "traced", dataclasses.replace(CONFIG, profile_steps=(4, 7)))
    folder = tmp_path / "traced" / "plugins" / "profile" / "steps_4_7"
    assert traced_steps(folder) == [3, 6]
    assert f"test: the trace is in {folder}" in capsys.readouterr().out
    np.testing.assert_array_equal(state.params, plain.params)
    assert not (tmp_path / "plain" / "plugins").exists()
    # What a trace costs is no figure of the steps.
    assert [step for step, _ in read_metrics(tmp_path / "traced")["time/device"]] == [6, 12]


def test_a_trace_ends_with_the_training(tmp_path):
    run(tmp_path, dataclasses.replace(CONFIG, profile_steps=(10, 99)))
    assert traced_steps(tmp_path / "plugins" / "profile" / "steps_10_99") == [9]


def test_steps_that_are_not_run_are_said_to_have_no_trace(tmp_path, capsys):
    run(tmp_path, dataclasses.replace(CONFIG, epochs=1, profile_steps=(12, 99)))
    assert "test: no step of (12, 99) was run, none is traced" in capsys.readouterr().out
    run(tmp_path, dataclasses.replace(CONFIG, epochs=2, profile_steps=(0, 3)))  # done before
    assert "test: no step of (0, 3) was run, none is traced" in capsys.readouterr().out
    assert not pathlib.Path(tmp_path, "plugins").exists()


@pytest.mark.parametrize("steps", [(1,), (3, 3), (5, 2), (1, 2, 3)])
def test_steps_that_are_no_range_are_refused(steps):
    with pytest.raises(InputError) as error:
        dataclasses.replace(CONFIG, profile_steps=steps)
    assert error.value.where == "profile_steps"
    assert error.value.expected == "two rising numbers of steps, or ()"
