"""The training loop, for every stage and every model."""

from collections.abc import Callable
from typing import Any, TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from catid2_jax.progress import Progress
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.optimizer import TrainingConfig
from catid2_jax.training.sampler import EpochSampler

Metrics: TypeAlias = dict[str, jax.Array]


class TrainState(flax.struct.PyTreeNode):
    """All that changes in training, and all that a checkpoint holds.

    Attributes:
        step: steps taken, int32.
        params: the model's parameters.
        optimizer_state: of the Optax optimizer.
        constants: what the model needs beside its parameters and training leaves alone.
    """

    step: jax.Array
    params: Any
    optimizer_state: Any
    constants: Any = ()

    def descend(self, gradients: Any, optimizer: optax.GradientTransformation) -> "TrainState":
        """The state after the optimizer's update of the parameters."""
        updates, optimizer_state = optimizer.update(gradients, self.optimizer_state, self.params)
        params = optax.apply_updates(self.params, updates)
        return self.replace(params=params, optimizer_state=optimizer_state)


StepFunction: TypeAlias = Callable[[TrainState, Any, jax.Array], tuple[TrainState, Metrics]]
"""(state, data on the device, indices [B] of the batch) -> (next state, scalar metrics)."""


def train(
    step_function: StepFunction,
    state: TrainState,
    data: Any,
    sampler: EpochSampler,
    config: TrainingConfig,
    checkpoints: Checkpoints,
    description: str,
) -> TrainState:
    """Trains for `config.epochs` from the latest checkpoint, or from `state` where there is none.

    The data stays on the device; a dispatch runs several steps, and its metrics are read only
    once the next one is under way. The result is the same with and without interruptions.
    """
    steps = config.epochs * sampler.steps_per_epoch
    run = _many_steps(step_function)
    if checkpoints.latest_step is not None:
        state = checkpoints.restore_latest(state)
    data, state = jax.device_put((data, state))
    done = saved = int(state.step)
    pending: Metrics = {}
    with Progress(description, steps, done) as progress:
        while done < steps:
            count = min(config.steps_per_dispatch, steps - done)
            state, metrics = run(state, data, jnp.asarray(sampler(done, count)))
            progress.advance(0, _read(pending))
            pending, done = metrics, done + count
            progress.advance(count)
            if done - saved >= config.checkpoint_every or done == steps:
                # Read first: a state that is not finite must not become a checkpoint.
                progress.advance(0, _read(pending))
                checkpoints.save(done, state)
                pending, saved = {}, done
    return state


def _many_steps(step_function: StepFunction) -> Callable[..., tuple[TrainState, Metrics]]:
    """One jitted call over indices [steps, B]; returns the mean of each metric."""

    def run(state: TrainState, data: Any, indices: jax.Array) -> tuple[TrainState, Metrics]:
        def one(state: TrainState, batch: jax.Array) -> tuple[TrainState, Metrics]:
            state, metrics = step_function(state, data, batch)
            return state.replace(step=state.step + 1), metrics

        state, metrics = jax.lax.scan(one, state, indices)
        return state, jax.tree.map(lambda m: m.mean(axis=0), metrics)

    return jax.jit(run, donate_argnums=0)


def _read(metrics: Metrics) -> dict[str, float]:
    """Waits for metrics and brings them to the host."""
    values = {name: float(np.asarray(value)) for name, value in metrics.items()}
    bad = [name for name, value in values.items() if not np.isfinite(value)]
    if bad:
        raise FloatingPointError(f"training metric {bad[0]} is {values[bad[0]]}: expected finite")
    return values
