"""The training loop, for every stage and every model."""

import contextlib
import dataclasses
import signal
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import flax.struct
import jax
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from catid2_jax.ops.mesh import DATA_AXIS
from catid2_jax.progress import Progress, console
from catid2_jax.signals import DeferredSignals, Interruption
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.finite import DocumentIds, FiniteCheck, example_numbers
from catid2_jax.training.flops import compute_figures, count_flops
from catid2_jax.training.metric_writer import MetricWriter
from catid2_jax.training.optimizer import TrainingConfig
from catid2_jax.training.profiling import StepProfile
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.training.sharding import (
    REPLICATED,
    data_mesh,
    fits_on_device,
    memory_figures,
    place,
)
from catid2_jax.training.step_time import StepClock
from catid2_jax.training.stopping import StopVote

Metrics: TypeAlias = dict[str, jax.Array]


class TrainState(flax.struct.PyTreeNode):
    """All that changes in training, and all that a checkpoint holds.

    Attributes:
        step: steps taken, int32.
        params: the model's parameters.
        optimizer_state: the Optax optimizer's state.
        constants: arrays that the model needs and training does not change.
    """

    step: jax.Array
    params: Any
    optimizer_state: Any
    constants: Any = ()

    def descend(self, gradients: Any, optimizer: optax.GradientTransformation) -> "TrainState":
        """Returns the state after the optimizer's update of the parameters."""
        updates, optimizer_state = optimizer.update(gradients, self.optimizer_state, self.params)
        params = optax.apply_updates(self.params, updates)
        return self.replace(params=params, optimizer_state=optimizer_state)


class Dataset(Protocol):
    """A pytree of arrays, on the host or on devices, that yields batches."""

    def batch(self, indices: Any) -> Any:
        """Returns the examples of `indices` [B]: a pytree of arrays [B, ...]."""


StepFunction: TypeAlias = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
"""(state, batch) -> (next state, scalar metrics); the batch is the global one, of all devices."""

Evaluator: TypeAlias = Callable[[TrainState], dict[str, float]]
"""state -> figures; only reads the state, and depends on nothing else."""

StateHook: TypeAlias = Callable[[TrainState], TrainState]
"""state -> the state with which training goes on; depends on nothing but the state."""


def train(
    step_function: StepFunction,
    state: TrainState,
    data: Dataset,
    sampler: EpochSampler,
    config: TrainingConfig,
    checkpoints: Checkpoints,
    description: str,
    evaluator: Evaluator | None = None,
    mesh: Mesh | None = None,
    specs: Any = REPLICATED,
    after_evaluation: StateHook | None = None,
    document_ids: DocumentIds = example_numbers,
) -> TrainState:
    """Trains to `config.total_steps` from the latest checkpoint, or from `state` where none is.

    A dispatch runs several steps, and its metrics are read only once the next one is under way. The
    result is the same with and without interruptions. SIGINT and SIGTERM act once the steps that
    are done are saved: after a dispatch, or, where this is the only process, within an evaluation,
    which is then made again.

    Args:
        step_function: the step.
        state: where training starts if there is no checkpoint.
        data: the examples, which stay on the devices if they fit; else batches are streamed.
        sampler: the order of the examples.
        config: how to train.
        checkpoints: where states are kept.
        description: what the progress display calls the training.
        evaluator: measures the state every `config.evaluate_every` steps and at the end.
        mesh: the devices over which batches are sharded; None for all, as data devices.
        specs: how the state is sharded, as `place` takes it.
        after_evaluation: called with every state that was evaluated, once the best one has been
            kept; training goes on with what it returns.
        document_ids: tells the documents of a batch whose loss is not finite.

    Returns:
        The state after the last step.

    Raises:
        InputError: a metric or a parameter is not finite; see `FiniteCheck`.
    """
    mesh = mesh or data_mesh()
    with jax.set_mesh(mesh):
        state, evaluated = place(state, mesh, specs), checkpoints.is_evaluated
        if checkpoints.latest_step is not None:
            state = checkpoints.restore(state)
        done, steps = int(state.step), config.total_steps(sampler.steps_per_epoch)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
        with (
            DeferredSignals() as signals,
            Progress(description, steps, done) as progress,
            MetricWriter(checkpoints.directory, done + 1) as writer,
            StepProfile(checkpoints.directory, config.profile_steps, description) as profile,
        ):
            training = _Training(
                state,
                steps,
                config,
                checkpoints,
                FiniteCheck(description, sampler, config, checkpoints, document_ids),
                progress,
                writer,
                profile,
                _Dispatcher(step_function, data, sampler, config, mesh, shardings),
                evaluator,
                after_evaluation,
                evaluated,
            )
            training.run(signals, StopVote(signals, mesh))
    return training.state


@dataclasses.dataclass
class _Training:
    """A training that is under way.

    Attributes:
        state: where it is.
        steps: where it ends.
        config: how it trains.
        checkpoints: where states are kept.
        check: refuses what is not finite.
        progress: the display.
        writer: the curves.
        profile: traces some steps.
        dispatcher: runs some steps.
        evaluator: measures a state.
        after_evaluation: changes it then.
        evaluated: whether the evaluation that is due after the steps that are done is done, too.
        pending: the metrics that are not read yet.
    """

    state: TrainState
    steps: int
    config: TrainingConfig
    checkpoints: Checkpoints
    check: FiniteCheck
    progress: Progress
    writer: MetricWriter
    profile: StepProfile
    dispatcher: "_Dispatcher"
    evaluator: Evaluator | None
    after_evaluation: StateHook | None
    evaluated: bool
    pending: Metrics = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.done = self.saved = int(self.state.step)
        self.clock = StepClock()

    def run(self, signals: DeferredSignals, stop: StopVote) -> None:
        """Goes on to the end, or until a signal comes; what is done is saved then."""
        with contextlib.suppress(Interruption):
            while not (self.evaluated and self.is_over):
                if self.evaluated:
                    with signals.at_once(stop.alone and self.done == self.saved):
                        self._dispatch(stop)
                    if stop():
                        break
                    if self.evaluated and not self.has_to_save:
                        continue
                    self._read({})
                if self.evaluator and not self.evaluated:
                    with signals.at_once(stop.alone):
                        figures = self.evaluator(self.state)
                    self._take(figures)
                if self.has_to_save:
                    self._save()
                if self.is_over:
                    self._say_why_it_ends()
        if not (self.evaluated and self.is_over):
            self._leave(signals)

    @property
    def is_over(self) -> bool:
        """Whether no step is left to be done."""
        return self.done == self.steps or _has_settled(self.config, self.checkpoints, self.done)

    @property
    def has_to_save(self) -> bool:
        """Whether a checkpoint is due."""
        return self.is_over or self.done - self.saved >= self.config.checkpoint_every

    def _dispatch(self, stop: StopVote) -> None:
        """Runs some steps, and reads the metrics of those before them."""
        until = _until(self.config, self.done)
        count = min(self.config.steps_per_dispatch, self.steps - self.done, until)
        is_new = self.dispatcher.will_compile(count)
        if self.profile.before(self.done, count) or is_new:
            self.clock.void()
        self.clock.skip()
        batches = self.dispatcher.batches(self.done, count)
        self.clock.lap("input")
        with jax.profiler.StepTraceAnnotation("train", step_num=self.done):
            self.state, metrics, outcome = self.dispatcher.run(self.state, batches, stop.votes())
        stop.take(outcome)
        self._read(metrics)
        self.done += count
        if self.profile.after(self.done, self.state):
            self.clock.void()
        self.progress.advance(count)
        self.clock.lap("host")
        due = self.done == self.steps or count == until
        self.evaluated = not (self.evaluator and due)

    def _read(self, metrics: Metrics) -> None:
        """Waits for the metrics that are pending, and has others pend."""
        self.clock.lap("host")
        values = {name: np.asarray(value) for name, value in self.pending.items()}
        self.clock.lap("device")
        self.pending = metrics
        if not values:
            return
        count = len(next(iter(values.values())))
        self.check.metrics(self.done - count, values)
        means = {name: float(value.mean()) for name, value in values.items()}
        self.progress.advance(0, {name: means[name] for name in means if "/" not in name})
        self.writer.write(self.done, means | self._speed(count))

    def _speed(self, count: int) -> dict[str, float]:
        """Where the time of `count` steps went, and what of the devices they took."""
        times, dispatcher = self.clock.take(count), self.dispatcher
        compute = compute_figures(dispatcher.flops, sum(times.values()), dispatcher.mesh)
        return times | compute | memory_figures()

    def _take(self, figures: dict[str, float]) -> None:
        """Keeps what an evaluation has found."""
        self.writer.write(self.done, figures)
        self.checkpoints.save_if_best(self.done, self.state, figures)
        if self.after_evaluation:
            self.state = self.after_evaluation(self.state)
        self.evaluated = True

    def _save(self) -> None:
        """Saves the state, unless it is not finite."""
        self._read({})
        self.check.state(self.done, self.state)
        self.checkpoints.save(self.done, self.state, self.evaluated)
        self.saved = self.done

    def _say_why_it_ends(self) -> None:
        config = self.config
        if not config.patience or not self.evaluator:
            return
        if _has_settled(config, self.checkpoints, self.done):
            console.print(
                f"the training ends at step {self.done:,} of at most {self.steps:,}: "
                f"{config.best_metric} has been level for {config.patience} evaluations"
            )
        else:
            console.print(
                f"the training ends at its last step, {self.steps:,}, before {config.best_metric} "
                f"has been level for {config.patience} evaluations: more steps may help"
            )

    def _leave(self, signals: DeferredSignals) -> None:
        """Saves what is not saved, and says so."""
        signals.received = signals.received or signal.SIGTERM  # another process has got it
        if self.done > self.saved:
            self._save()
        saved = f"step {self.saved:,} is saved" if self.saved else "no step was done yet"
        console.print(f"{signals.received.name}: {saved}")


def _has_settled(config: TrainingConfig, checkpoints: Checkpoints, done: int) -> bool:
    """Returns whether `config.patience` evaluations have passed since the best."""
    if not config.patience or checkpoints.best_step is None:
        return False
    return done - checkpoints.best_step >= config.patience * config.evaluate_every


def _until(config: TrainingConfig, done: int) -> int:
    """Counts the steps until the next evaluation, at least 1."""
    return config.evaluate_every - done % config.evaluate_every


class _Dispatcher:
    """Makes the batches of a dispatch, and runs its steps.

    Attributes:
        mesh: the devices.
        flops: floating-point operations of a step, once one was run.
    """

    def __init__(
        self,
        step_function: StepFunction,
        data: Dataset,
        sampler: EpochSampler,
        config: TrainingConfig,
        mesh: Mesh,
        shardings: Any,
    ) -> None:
        """Places the data, if they are to stay on the devices."""
        self.mesh, self.flops = mesh, 0
        resident = config.data_on == "device" or (config.data_on == "auto" and fits_on_device(data))
        self._on_devices = place(data, mesh) if resident else None
        self._data, self._sampler = data, sampler
        self._counts: set[int] = set()

        def many_steps(
            state: TrainState, data: Dataset | None, batches: Any, votes: jax.Array | None
        ) -> tuple[TrainState, Metrics, jax.Array | None]:
            def one(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
                state, metrics = step_function(state, batch if data is None else data.batch(batch))
                return state.replace(step=state.step + 1), metrics

            state, metrics = jax.lax.scan(one, state, batches)
            return state, metrics, None if votes is None else votes.any()

        self._run = jax.jit(many_steps, donate_argnums=0, out_shardings=(shardings, None, None))

    def batches(self, first: int, count: int) -> Any:
        """Returns the batches of `count` steps from step `first` on, or their examples' indices."""
        indices = self._sampler(first, count)
        batches = self._data.batch(indices) if self._on_devices is None else indices
        return place(batches, self.mesh, PartitionSpec(None, DATA_AXIS))

    def will_compile(self, count: int) -> bool:
        """Returns whether dispatches of `count` steps are not compiled yet; they will be then."""
        is_new = count not in self._counts
        self._counts.add(count)
        return is_new

    def run(
        self, state: TrainState, batches: Any, votes: jax.Array | None
    ) -> tuple[TrainState, Metrics, jax.Array | None]:
        """Returns the state after the steps, their metrics [steps] and the outcome of `StopVote`.

        They are computed while the caller goes on.
        """
        arguments = state, self._on_devices, batches, votes
        if not self.flops:
            # The call below takes what is traced here.
            program = self._run.trace(*arguments).jaxpr.jaxpr
            self.flops = count_flops(program) // len(jax.tree.leaves(batches)[0])
        return self._run(*arguments)
