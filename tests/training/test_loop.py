"""The loop against gradient descent written out, and a resumed run against an uninterrupted one."""

import dataclasses
import functools
import json
import signal
import types

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from catid2_jax import signals
from catid2_jax.errors import InputError
from catid2_jax.training import loop, sharding
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.optimizer import TrainingConfig
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.training.stopping import StopVote


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


def run(directory, config=CONFIG, evaluator=None, data=None, after_evaluation=None):
    sampler = EpochSampler(len(DATA), config.batch_size, seed=0)
    with Checkpoints(directory, config.best_metric, config.best_mode) as checkpoints:
        return train(
            step_function,
            start(),
            data or Rows(DATA),
            sampler,
            config,
            checkpoints,
            "test",
            evaluator,
            after_evaluation=after_evaluation,
        )


@functools.cache
def after(steps):
    """The parameters after so many steps, written out."""
    if steps == 0:
        return np.zeros(3)
    (batch,) = EpochSampler(20, 6, 0)(steps - 1, 1)
    return after(steps - 1) + 0.1 * (DATA[batch].mean(axis=0) - after(steps - 1))


def kept(directory, which):
    """(step, parameters) of a checkpoint."""
    with Checkpoints(directory) as checkpoints:
        state = checkpoints.restore(start(), which)
    return int(state.step), np.asarray(state.params)


def curve(directory):
    """The metric of `step_function` as TensorBoard reads it."""
    events = EventAccumulator(str(directory)).Reload().Scalars("gap")
    return [(event.step, event.value) for event in events]


def test_takes_the_sampler_s_batches_in_turn(tmp_path):
    state = run(tmp_path)
    assert int(state.step) == 12
    np.testing.assert_allclose(state.params, after(12), rtol=1e-5)


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
    # A file's name holds the second of its opening, by which TensorBoard orders them.
    (events,) = (tmp_path / "killed").glob("events*")
    events.rename(events.with_name("events.out.tfevents.1000000000.before"))
    again = run(tmp_path / "killed")
    assert asked == [0, 5, 10, 10]  # what was done is not done again
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    assert [step for step, _ in curve(tmp_path / "whole")] == [5, 10, 12]
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_training_is_only_read(tmp_path, monkeypatch):
    first = run(tmp_path)
    monkeypatch.delattr(EpochSampler, "__call__")
    np.testing.assert_array_equal(run(tmp_path).params, first.params)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path, monkeypatch):
    """It is the eighth step whose batch does it, in a dispatch of the steps 6 to 10."""

    def bad_step(state, batch):
        term = jnp.where(state.step == 7, jnp.nan, 1.0)
        return state, {"loss": term + 1, "term": term, "other": jnp.float32(1)}

    sampler = EpochSampler(len(DATA), 6, 0)
    config = dataclasses.replace(CONFIG, learning_rate=0.5)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError) as error:
        train(
            bad_step,
            start(),
            Rows(DATA),
            sampler,
            config,
            checkpoints,
            "test",
            document_ids=lambda rows: [f"p{row}" for row in rows],
        )
    batch = [f"p{row}" for row in EpochSampler(len(DATA), 6, 0)(7, 1)[0]]
    found = error.value
    assert found.where == "test"
    assert found.found.startswith(
        f"term = nan, loss = nan at step 8, in a batch of 6 documents ({batch[0]}, {batch[1]}, "
    )
    for text in ("checkpoint is of step 5", "learning_rate below 0.5", "max_gradient", "dtype"):
        assert text in found.expected
    note = json.loads((tmp_path / "not_finite.json").read_text())
    assert note == {"step": 8, "not finite": ["term", "loss"], "documents": batch}
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 5


def test_a_state_that_is_not_finite_becomes_no_checkpoint(tmp_path):
    """The loss is that of the parameters before the update."""

    def bad_step(state, batch):
        params = jnp.where(state.step == 9, jnp.inf, state.params)
        return state.replace(params=params), {"loss": jnp.float32(1)}

    sampler = EpochSampler(len(DATA), 6, 0)
    message = "found parameters that are not finite at step 10, .* checkpoint is of step 5"
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError, match=message):
        train(bad_step, start(), Rows(DATA), sampler, CONFIG, checkpoints, "test")
    assert kept(tmp_path, "last")[0] == 5


def test_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        message = r"last: found params of shape \(3,\) at step 12, expected \(4,\)"
        with pytest.raises(InputError, match=message):
            checkpoints.restore(TrainState(jnp.int32(0), jnp.zeros(4), ()))
        message = r"found params of shape \(3,\) at step 12, expected none"
        with pytest.raises(InputError, match=message):
            checkpoints.restore(TrainState(jnp.int32(0), {"w": jnp.zeros(3)}, ()))
    with (
        Checkpoints(tmp_path / "empty") as checkpoints,
        pytest.raises(InputError, match="no checkpoint"),
    ):
        checkpoints.restore(start())


FIGURES = {3: 0.5, 6: 0.9, 9: 0.1, 12: 0.5}


def figures_of(state):
    return {"good": FIGURES[int(state.step)], "other": -1.0}


EVALUATED = dataclasses.replace(CONFIG, evaluate_every=3, checkpoint_every=12)


@pytest.mark.parametrize(
    ("every", "dispatch", "expected"),
    [(3, 5, [3, 6, 9, 12]), (5, 2, [5, 10, 12]), (4, 4, [4, 8, 12]), (99, 5, [12])],
)
def test_evaluations_are_at_their_steps_and_at_the_end(tmp_path, every, dispatch, expected):
    seen = {}

    def evaluator(state):
        seen[int(state.step)] = np.array(state.params)
        return {}

    config = dataclasses.replace(CONFIG, evaluate_every=every, steps_per_dispatch=dispatch)
    run(tmp_path, config, evaluator)
    assert list(seen) == expected
    for step, params in seen.items():
        np.testing.assert_allclose(params, after(step), rtol=1e-5)


@pytest.mark.parametrize(("mode", "best"), [("max", 6), ("min", 9)])
def test_the_best_state_is_kept_beside_the_last(tmp_path, mode, best):
    config = dataclasses.replace(EVALUATED, best_metric="good", best_mode=mode)
    run(tmp_path, config, figures_of)
    for which, expected in (("best", best), ("last", 12)):
        step, params = kept(tmp_path, which)
        assert step == expected
        np.testing.assert_allclose(params, after(expected), rtol=1e-5)


def test_the_best_state_is_the_one_that_was_evaluated(tmp_path):
    """A hook may change the state after its evaluation; the new one has no figures yet."""
    calls = []

    def evaluator(state):
        calls.append(("evaluator", int(state.step)))
        return {"good": 1.0}

    def hook(state):
        calls.append(("hook", int(state.step)))
        return state.replace(params=state.params + 100)

    config = dataclasses.replace(EVALUATED, best_metric="good")
    last = run(tmp_path, config, evaluator, after_evaluation=hook)
    assert calls == [(name, step) for step in (3, 6, 9, 12) for name in ("evaluator", "hook")]
    step, params = kept(tmp_path, "best")
    assert step == 3
    np.testing.assert_allclose(params, after(3), rtol=1e-5)
    assert float(last.params.min()) > 100  # the training went on with the other
    np.testing.assert_array_equal(kept(tmp_path, "last")[1], last.params)


def test_a_hook_is_called_after_evaluations_only(tmp_path):
    run(tmp_path, EVALUATED, after_evaluation=lambda state: 1 / 0)


def test_without_a_metric_there_is_no_best(tmp_path):
    run(tmp_path, EVALUATED, figures_of)
    with pytest.raises(InputError, match="best: found no checkpoint, expected a trained model"):
        kept(tmp_path, "best")


def test_an_unknown_metric_is_refused_with_those_there_are(tmp_path):
    config = dataclasses.replace(EVALUATED, best_metric="goood")
    message = "^best_metric: found 'goood', expected one of good, other$"
    with pytest.raises(InputError, match=message):
        run(tmp_path, config, figures_of)


@pytest.mark.parametrize(
    ("values", "patience", "end", "best"),
    [
        ({3: 5.0, 6: 1.0, 9: 1.0, 12: 1.0}, 1, 6, 3),
        ({3: 5.0, 6: 1.0, 9: 1.0, 12: 1.0}, 2, 9, 3),
        ({3: 5.0, 6: 1.0, 9: 6.0, 12: 1.0}, 2, 12, 9),
        ({3: 5.0, 6: 5.0, 9: 9.0, 12: 9.0}, 1, 6, 3),  # no better is not better
        ({3: 5.0, 6: 1.0, 9: 1.0, 12: 1.0}, 0, 12, 3),
    ],
)
def test_training_ends_once_patience_is_spent(tmp_path, values, patience, end, best):
    config = dataclasses.replace(EVALUATED, best_metric="good", patience=patience)

    def evaluator(state):
        return {"good": values[int(state.step)]}

    assert int(run(tmp_path, config, evaluator).step) == end
    assert (kept(tmp_path, "last")[0], kept(tmp_path, "best")[0]) == (end, best)
    assert int(run(tmp_path, config, evaluator).step) == end  # nor does it go on later


EARLY = "the training ends at step {} of at most 12: good has been level for 2 evaluations"


def test_progress_has_no_figures_of_levels_and_the_curves_have_all(tmp_path, monkeypatch):
    def step(state, batch):
        state, metrics = step_function(state, batch)
        return state, {**metrics, "usage/level_1": metrics["gap"]}

    shown = []
    monkeypatch.setattr(
        loop.Progress, "advance", lambda self, units, values=None: shown.append(values)
    )
    sampler = EpochSampler(len(DATA), 6, seed=0)
    with Checkpoints(tmp_path) as checkpoints:
        train(step, start(), Rows(DATA), sampler, CONFIG, checkpoints, "test")
    assert {tuple(values) for values in shown if values} == {("gap",)}
    assert {"gap", "usage/level_1"} <= {*EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]}


LATE = (
    "the training ends at its last step, 12, before good has been level for 2 evaluations: "
    "more steps may help"
)


@pytest.mark.parametrize(
    ("patience", "best", "said"),
    [(2, 9, [LATE]), (2, 6, [EARLY.format(12)]), (2, 3, [EARLY.format(9)]), (0, 9, [])],
)
def test_a_training_says_why_it_ends(tmp_path, monkeypatch, patience, best, said):
    lines = []
    monkeypatch.setattr(loop.console, "print", lambda text="", **_: lines.append(text))
    config = dataclasses.replace(EVALUATED, best_metric="good", patience=patience)
    run(tmp_path, config, lambda state: {"good": float(int(state.step) == best)})
    assert [line for line in lines if "ends at" in line] == said
    run(tmp_path, config, lambda state: {"good": 0.0})  # which is done already
    assert [line for line in lines if "ends at" in line] == said


def test_resumed_with_a_hook_that_changes_the_state(tmp_path, monkeypatch):
    """Stopped after the evaluation of step 9, with a checkpoint of step 5."""

    def evaluator(state):
        return {"good": float(state.params[0])}

    def hook(state):
        return state.replace(params=state.params * jnp.float32(1.5))

    config = dataclasses.replace(
        CONFIG, evaluate_every=3, checkpoint_every=5, steps_per_dispatch=2, best_metric="good"
    )
    whole = run(tmp_path / "whole", config, evaluator, after_evaluation=hook)
    original = EpochSampler.__call__

    def stopped(self, first, steps):
        if first == 9:
            raise ConnectionAbortedError
        return original(self, first, steps)

    monkeypatch.setattr(EpochSampler, "__call__", stopped)
    with pytest.raises(ConnectionAbortedError):
        run(tmp_path / "stopped", config, evaluator, after_evaluation=hook)
    monkeypatch.setattr(EpochSampler, "__call__", original)
    assert kept(tmp_path / "stopped", "last")[0] == 5
    resumed = run(tmp_path / "stopped", config, evaluator, after_evaluation=hook)
    np.testing.assert_array_equal(resumed.params, whole.params)
    assert int(resumed.step) == int(whole.step) == 12
    for which in ("last", "best"):
        ours, theirs = (kept(tmp_path / name, which) for name in ("stopped", "whole"))
        assert ours[0] == theirs[0]
        np.testing.assert_array_equal(ours[1], theirs[1])


INTERRUPTIONS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: signals.Terminated}


def run_halted(directory, monkeypatch, number, at, config=CONFIG, **options):
    """A training to which a signal comes while the batches from step `at` are made."""
    original = EpochSampler.__call__

    def sample(self, first, steps):
        if first == at:
            signal.raise_signal(number)
        return original(self, first, steps)

    monkeypatch.setattr(EpochSampler, "__call__", sample)
    with signals.raised(), pytest.raises(INTERRUPTIONS[number]):
        run(directory, config, **options)
    monkeypatch.setattr(EpochSampler, "__call__", original)


@pytest.mark.parametrize("number", INTERRUPTIONS)
def test_a_signal_saves_the_steps_that_are_done(tmp_path, monkeypatch, capsys, number):
    """They are five of the first dispatch and those of the second, which was under way."""
    config = dataclasses.replace(CONFIG, checkpoint_every=1000)
    whole = run(tmp_path / "whole", config)
    run_halted(tmp_path / "halted", monkeypatch, number, 5, config)
    assert f"{number.name}: step 10 is saved" in capsys.readouterr().out
    assert kept(tmp_path / "halted", "last")[0] == 10
    handlers = [signal.getsignal(n) for n in signals.NUMBERS]
    np.testing.assert_array_equal(run(tmp_path / "halted", config).params, whole.params)
    assert [signal.getsignal(n) for n in signals.NUMBERS] == handlers


def test_a_signal_ends_a_training_that_has_nothing_to_save_at_once(tmp_path, monkeypatch, capsys):
    run_halted(tmp_path, monkeypatch, signal.SIGTERM, 0)
    assert "SIGTERM: no step was done yet" in capsys.readouterr().out
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step is None


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("at", [6, 12])
def test_an_evaluation_that_a_signal_interrupts_is_made_again(tmp_path, monkeypatch, at, within):
    """Within it, or when the dispatch before it has just been sent; a hook follows it."""
    config = dataclasses.replace(EVALUATED, best_metric="good", checkpoint_every=1000)
    seen = []

    def evaluator(state):
        seen.append(int(state.step))
        if within and seen.count(at) == 1 and seen[-1] == at:
            signal.raise_signal(signal.SIGINT)
        return {"good": float(state.params[0])}

    def hook(state):
        return state.replace(params=state.params * jnp.float32(1.5))

    halting = {"evaluator": evaluator, "after_evaluation": hook}
    run_halted(
        tmp_path / "halted", monkeypatch, signal.SIGINT, -1 if within else at - 3, config, **halting
    )
    with Checkpoints(tmp_path / "halted") as checkpoints:
        assert (checkpoints.latest_step, checkpoints.is_evaluated) == (at, False)
    resumed = run(tmp_path / "halted", config, evaluator, after_evaluation=hook)
    assert seen == [*range(3, at + (within and 1), 3), *range(at, 13, 3)]
    whole = run(tmp_path / "whole", config, evaluator, after_evaluation=hook)
    np.testing.assert_array_equal(resumed.params, whole.params)
    for which in ("last", "best"):
        ours, theirs = (kept(tmp_path / name, which) for name in ("halted", "whole"))
        assert ours[0] == theirs[0]
        np.testing.assert_array_equal(ours[1], theirs[1])
    seen.clear()
    run(tmp_path / "halted", config, evaluator, after_evaluation=hook)
    assert seen == []


def test_an_error_is_not_hidden_by_a_signal():
    def fail():
        signal.raise_signal(signal.SIGTERM)
        raise ZeroDivisionError

    with signals.raised(), pytest.raises(ZeroDivisionError), signals.DeferredSignals():
        fail()


def test_votes_of_several_processes_count_a_dispatch_later(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    deferred, answers = signals.DeferredSignals(), []
    stop = StopVote(deferred, sharding.data_mesh())
    for dispatch in range(4):
        deferred.received = signal.SIGTERM if dispatch >= 1 else None
        stop.take(stop.votes().any())
        answers.append(stop())
    assert answers == [False, False, True, True]


@flax.struct.dataclass
class Watched(Rows):
    """Rows that note who asked for a batch."""

    def batch(self, indices):
        ASKED.append("device" if isinstance(indices, jax.core.Tracer) else "host")
        return super().batch(indices)


ASKED = []


@pytest.mark.parametrize(
    ("data_on", "fits", "expected"),
    [
        ("device", False, "device"),
        ("host", True, "host"),
        ("auto", True, "device"),
        ("auto", False, "host"),
    ],
)
def test_data_are_resident_or_streamed_with_one_result(
    tmp_path, monkeypatch, data_on, fits, expected
):
    monkeypatch.setattr(loop, "fits_on_device", lambda data: fits)
    ASKED.clear()
    config = dataclasses.replace(CONFIG, data_on=data_on)
    state = run(tmp_path, config, data=Watched(DATA))
    assert set(ASKED) == {expected}
    np.testing.assert_allclose(state.params, after(12), rtol=1e-5)
    np.testing.assert_allclose(state.params, run(tmp_path / "plain").params, rtol=1e-6)


@pytest.mark.parametrize(
    ("memory", "fits"),
    [
        ({"bytes_limit": 200 + 481, "bytes_in_use": 200}, True),
        ({"bytes_limit": 200 + 480, "bytes_in_use": 200}, False),  # not less than half
        ({"bytes_limit": 481}, True),
        ({"bytes_in_use": 200}, True),  # the limit is not known
        (None, True),
    ],
)
def test_data_fit_in_half_of_what_a_device_has_left(monkeypatch, memory, fits):
    assert DATA.nbytes == 240
    device = types.SimpleNamespace(memory_stats=lambda: memory)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert sharding.fits_on_device(Rows(DATA)) == fits


def test_memory_is_that_of_the_fullest_device(monkeypatch):
    def have(*stats):
        found = [types.SimpleNamespace(memory_stats=lambda one=one: one) for one in stats]
        monkeypatch.setattr(jax, "local_devices", lambda: found)
        return sharding.memory_figures()

    one = {"bytes_in_use": 2**30, "peak_bytes_in_use": 3 * 2**30, "bytes_limit": 2**40}
    other = {"bytes_in_use": 2**31, "peak_bytes_in_use": 2**31}
    assert have(one, other) == {"memory/in_use_gib": 2.0, "memory/peak_gib": 3.0}
    assert have({"bytes_in_use": 2**29}) == {"memory/in_use_gib": 0.5}
    assert have(None) == {}
