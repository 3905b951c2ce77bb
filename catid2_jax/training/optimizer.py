"""Builds the optimizers and their learning-rate schedules."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from catid2_jax.constraints import (
    UNRECORDED,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_fields,
)
from catid2_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a stage is trained.

    Attributes:
        batch_size: documents or pairs per step; 0 for about a 32nd of what there is, a power of
            two from 256 to 4,096.
        epochs: passes over the data; 0 where `steps` says how long.
        steps: steps of the training; 0 where `epochs` says how long.
        optimizer: "adamw", or "adafactor" as T5 was trained: second moments by rows and columns
            only, and updates in proportion to the parameters' size.
        learning_rate: the highest rate of the schedule.
        weight_decay: share of a parameter that a step takes away, times the rate.
        warmup_steps: steps in which the rate rises linearly from 0.
        schedule: the rate after the warm-up: it stays ("constant"), falls to 0 at the last step
            along a line or a cosine, or is the peak times sqrt(warmup_steps / step)
            ("inverse_sqrt").
        max_gradient_norm: global norm to which larger gradients are scaled down; 0 leaves them.
        steps_per_dispatch: steps per call into the compiled loop, after which progress is shown.
        checkpoint_every: steps between checkpoints, rounded up to whole dispatches.
        evaluate_every: steps between evaluations; there is one at the end in any case.
        best_metric: figure of the evaluations whose best state is kept beside the last; empty for
            the last only.
        best_mode: whether a lower ("min") or a higher ("max") figure is better.
        best_margin: how much better than the best so far a figure has to be to count as better.
        patience: training ends once this many evaluations in a row were no better than the best;
            0 trains to the last step.
        data_on: "device" keeps the data on every device, "host" streams each batch, "auto" chooses
            by whether they fit.
        profile_steps: (100, 110) traces the steps after the 100th up to the 110th, rounded to whole
            dispatches, for TensorBoard's profiler; () traces none. Any run of a work directory may
            have its own.
    """

    batch_size: NonNegativeInt = 4096
    epochs: NonNegativeInt = 300
    steps: NonNegativeInt = 0
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-4
    warmup_steps: NonNegativeInt = 0
    schedule: Literal["constant", "linear", "cosine", "inverse_sqrt"] = "constant"
    max_gradient_norm: NonNegativeFloat = 0.0
    steps_per_dispatch: PositiveInt = 16
    checkpoint_every: PositiveInt = 1000
    evaluate_every: PositiveInt = 1000
    best_metric: str = ""
    best_mode: Literal["min", "max"] = "max"
    best_margin: NonNegativeFloat = 0.0
    patience: NonNegativeInt = 0
    data_on: Literal["auto", "device", "host"] = "auto"
    profile_steps: tuple[NonNegativeInt, ...] = dataclasses.field(default=(), metadata=UNRECORDED)

    def __post_init__(self) -> None:
        check_fields(self)
        if bool(self.epochs) == bool(self.steps):
            raise InputError(
                "epochs", f"{self.epochs} with steps = {self.steps}", "one of them, and the other 0"
            )
        if self.schedule == "inverse_sqrt" and self.warmup_steps < 1:
            raise InputError(
                "warmup_steps", self.warmup_steps, "at least 1 for the schedule 'inverse_sqrt'"
            )
        if self.patience and not self.best_metric:
            raise InputError(
                "patience",
                f"{self.patience} with best_metric {self.best_metric!r}",
                "0, or more with a metric",
            )
        ends = self.profile_steps
        if ends and (len(ends) != 2 or ends[0] >= ends[1]):
            raise InputError("profile_steps", ends, "two rising numbers of steps, or ()")

    def batch_of(self, examples: int) -> int:
        """Returns the examples per step, where there are `examples` in all."""
        part = 2 ** round(math.log2(max(examples / 32, 1)))
        return self.batch_size or min(max(part, 256), 4096)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Returns the steps of the whole training."""
        return self.steps or self.epochs * steps_per_epoch


def make_optimizer(config: TrainingConfig, steps: int) -> optax.GradientTransformation:
    """Builds the configured optimizer, with its schedule over `steps` steps."""
    schedule = _schedule(config, steps)
    if config.optimizer == "adafactor":
        # Shazeer and Stern (2018). `optax.adafactor` would decay weights whatever the rate.
        optimizer = optax.chain(
            optax.scale_by_factored_rms(),
            optax.clip_by_block_rms(1.0),
            optax.scale_by_param_block_rms(),
            optax.add_decayed_weights(config.weight_decay),
            optax.scale_by_learning_rate(schedule),
        )
    else:
        optimizer = optax.adamw(schedule, weight_decay=config.weight_decay)
    if config.max_gradient_norm:
        return optax.chain(optax.clip_by_global_norm(config.max_gradient_norm), optimizer)
    return optimizer


def with_rate_of(
    optimizer: optax.GradientTransformation, name: str, share: float
) -> optax.GradientTransformation:
    """Gives a subtree of the parameters a share of the learning rate.

    Args:
        optimizer: one whose updates are in proportion to the rate; its state stays as it is.
        name: the subtree, a key of the parameters.
        share: what the subtree's updates are multiplied by.
    """

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = optimizer.update(gradients, state, params)
        return {**updates, name: jax.tree.map(lambda u: share * u, updates[name])}, state

    return optax.GradientTransformation(optimizer.init, update)


def _schedule(config: TrainingConfig, steps: int) -> optax.Schedule:
    peak, warmup = config.learning_rate, config.warmup_steps
    rest = max(steps - warmup, 1)
    after = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest),
        # Here, steps count from the end of the warm-up.
        "inverse_sqrt": lambda step: peak * jnp.sqrt(warmup / (warmup + step)),
    }[config.schedule]
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])
