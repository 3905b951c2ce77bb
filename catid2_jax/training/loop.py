"""The training loop, for every stage and every model."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import flax.struct
import jax
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from catid2_jax.ops.mesh import DATA_AXIS
from catid2_jax.progress import Progress, console
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.metric_writer import MetricWriter
from catid2_jax.training.optimizer import TrainingConfig
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.training.sharding import REPLICATED, data_mesh, fits_on_device, place

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
) -> TrainState:
    """Trains to `config.total_steps` from the latest checkpoint, or from `state` where none is.

    A dispatch runs several steps, and its metrics are read only once the next one is under way. The
    result is the same with and without interruptions.

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

    Returns:
        The state after the last step.
    """
    mesh = mesh or data_mesh()
    with jax.set_mesh(mesh):
        state = place(state, mesh, specs)
        if checkpoints.latest_step is not None:
            state = checkpoints.restore(state)
        done = saved = int(state.step)
        steps = config.total_steps(sampler.steps_per_epoch)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
        run = _dispatcher(step_function, data, sampler, config, mesh, shardings)
        pending: Metrics = {}
        with (
            Progress(description, steps, done) as progress,
            MetricWriter(checkpoints.directory, done + 1) as writer,
        ):

            def read(metrics: Metrics) -> None:
                values = _read(metrics)
                progress.advance(0, values)
                writer.write(done, values)

            while done < steps and not _has_settled(config, checkpoints, done):
                count = min(config.steps_per_dispatch, steps - done, _until(config, done))
                state, metrics = run(state, done, count)
                read(pending)
                pending, done = metrics, done + count
                progress.advance(count)
                evaluate = evaluator and (
                    done == steps or _until(config, done) == config.evaluate_every
                )
                if not evaluate and done != steps and done - saved < config.checkpoint_every:
                    continue
                # Read first: a state that is not finite must not become a checkpoint.
                read(pending)
                pending = {}
                if evaluator and evaluate:
                    figures = evaluator(state)
                    writer.write(done, figures)
                    checkpoints.save_if_best(done, state, figures)
                    if after_evaluation:
                        state = after_evaluation(state)
                ends = done == steps or _has_settled(config, checkpoints, done)
                if ends or done - saved >= config.checkpoint_every:
                    checkpoints.save(done, state)
                    saved = done
    if config.patience and evaluator and not _has_settled(config, checkpoints, steps):
        console.print(
            f"{description} ends at its last step, {steps:,}, before {config.best_metric} has been "
            f"level for {config.patience} evaluations: more steps may help"
        )
    return state


def _has_settled(config: TrainingConfig, checkpoints: Checkpoints, done: int) -> bool:
    """Returns whether `config.patience` evaluations have passed since the best."""
    if not config.patience or checkpoints.best_step is None:
        return False
    return done - checkpoints.best_step >= config.patience * config.evaluate_every


def _until(config: TrainingConfig, done: int) -> int:
    """Counts the steps until the next evaluation, at least 1."""
    return config.evaluate_every - done % config.evaluate_every


def _dispatcher(
    step_function: StepFunction,
    data: Dataset,
    sampler: EpochSampler,
    config: TrainingConfig,
    mesh: Mesh,
    shardings: Any,
) -> Callable[[TrainState, int, int], tuple[TrainState, Metrics]]:
    """Compiles (state, first step, number of steps) -> (state, means of the metrics)."""
    resident = config.data_on == "device" or (config.data_on == "auto" and fits_on_device(data))
    rows = PartitionSpec(None, DATA_AXIS)

    def many_steps(
        state: TrainState, data: Dataset | None, batches: Any
    ) -> tuple[TrainState, Metrics]:
        def one(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
            state, metrics = step_function(state, batch if data is None else data.batch(batch))
            return state.replace(step=state.step + 1), metrics

        state, metrics = jax.lax.scan(one, state, batches)
        return state, jax.tree.map(lambda m: m.mean(axis=0), metrics)

    run = jax.jit(many_steps, donate_argnums=0, out_shardings=(shardings, None))
    on_devices = place(data, mesh) if resident else None

    def dispatch(state: TrainState, first: int, count: int) -> tuple[TrainState, Metrics]:
        indices = sampler(first, count)
        batches = indices if resident else data.batch(indices)
        return run(state, on_devices, place(batches, mesh, rows))

    return dispatch


def _read(metrics: Metrics) -> dict[str, float]:
    """Waits for metrics and brings them to the host."""
    values = {name: float(np.asarray(value)) for name, value in metrics.items()}
    bad = [name for name, value in values.items() if not np.isfinite(value)]
    if bad:
        raise FloatingPointError(f"training metric {bad[0]} is {values[bad[0]]}: expected finite")
    return values
