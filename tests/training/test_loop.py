"""The loop against gradient descent written out, and a resumed run against an uninterrupted one."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.errors import InputError
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.optimizer import TrainingConfig
from catid2_jax.training.sampler import EpochSampler


@flax.struct.dataclass
class Rows:
    values: np.ndarray

    def batch(self, indices):
        return self.values[indices]


DATA = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
CONFIG = TrainingConfig(batch_size=6, epochs=4, steps_per_dispatch=5, checkpoint_every=1)


def step_function(state, batch):
    """w moves a tenth of the way to the batch's mean."""
    gap = jnp.mean(batch, axis=0) - state.params
    return state.replace(params=state.params + 0.1 * gap), {"gap": jnp.abs(gap).mean()}


def start():
    return TrainState(jnp.int32(0), jnp.zeros(3), ())


def run(directory, config=CONFIG, evaluator=None):
    sampler = EpochSampler(len(DATA), config.batch_size, seed=0)
    with Checkpoints(directory, config.best_metric, config.best_mode) as checkpoints:
        rows = Rows(DATA)
        return train(step_function, start(), rows, sampler, config, checkpoints, "test", evaluator)


def test_takes_the_sampler_s_batches_in_turn(tmp_path):
    state = run(tmp_path)
    w = np.zeros(3)
    for batch in EpochSampler(20, 6, 0)(0, 12):
        w += 0.1 * (DATA[batch].mean(axis=0) - w)
    assert int(state.step) == 12
    np.testing.assert_allclose(state.params, w, rtol=1e-5)


def test_resumed_is_bit_identical_to_uninterrupted(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole")
    asked = []
    original = EpochSampler.__call__

    def killed(self, first, steps):
        asked.append(first)
        if asked == [0, 5, 10]:
            raise ConnectionAbortedError
        return original(self, first, steps)

    monkeypatch.setattr(EpochSampler, "__call__", killed)
    with pytest.raises(ConnectionAbortedError):
        run(tmp_path / "killed")
    with Checkpoints(tmp_path / "killed") as checkpoints:
        assert checkpoints.latest_step == 10
    again = run(tmp_path / "killed")
    assert asked == [0, 5, 10, 10]  # what was done is not done again
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_training_is_only_read(tmp_path, monkeypatch):
    first = run(tmp_path)
    monkeypatch.delattr(EpochSampler, "__call__")
    np.testing.assert_array_equal(run(tmp_path).params, first.params)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path, monkeypatch):
    def bad_step(state, batch):
        return state, {"loss": jnp.float32(jnp.nan)}

    sampler = EpochSampler(len(DATA), 6, 0)
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(FloatingPointError, match="loss is nan"),
    ):
        train(bad_step, start(), Rows(DATA), sampler, CONFIG, checkpoints, "test")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step is None


def test_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        message = r"checkpoint of step 12 has params of shape \(3,\), expected \(4,\)"
        with pytest.raises(InputError, match=message):
            checkpoints.restore(TrainState(jnp.int32(0), jnp.zeros(4), ()))
        message = r"has params of shape \(3,\), expected none"
        with pytest.raises(InputError, match=message):
            checkpoints.restore(TrainState(jnp.int32(0), {"w": jnp.zeros(3)}, ()))
    with (
        Checkpoints(tmp_path / "empty") as checkpoints,
        pytest.raises(InputError, match="no checkpoint"),
    ):
        checkpoints.restore(start())
