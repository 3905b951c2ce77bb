"""AdamW and its learning-rate schedule."""

import dataclasses
from typing import Literal

import optax

from catid2_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a stage is trained.

    Attributes:
        batch_size: documents or pairs per step.
        epochs: passes over the data.
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW.
        warmup_steps: linear from 0.
        decay: whether the rate falls to 0 along a cosine after the warm-up, or stays.
        max_gradient_norm: gradients are scaled down to this global norm; 0 leaves them.
        steps_per_dispatch: steps per call into the compiled loop; progress is seen this often.
        checkpoint_every: steps between checkpoints, rounded up to whole dispatches.
        evaluate_every: steps between evaluations; there is one at the end in any case.
        best_metric: figure of the evaluations whose best state is kept beside the last; empty for
            the last only.
        best_mode: whether the best is the least or the most of it.
        data_on: "device" keeps the data on every device, "host" streams each batch; "auto" asks
            whether they fit.
    """

    batch_size: int = 4096
    epochs: int = 300
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 0
    decay: bool = False
    max_gradient_norm: float = 0.0
    steps_per_dispatch: int = 16
    checkpoint_every: int = 1000
    evaluate_every: int = 1000
    best_metric: str = ""
    best_mode: Literal["min", "max"] = "max"
    data_on: Literal["auto", "device", "host"] = "auto"

    def __post_init__(self) -> None:
        for name in (
            "batch_size",
            "epochs",
            "steps_per_dispatch",
            "checkpoint_every",
            "evaluate_every",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate is {self.learning_rate}: expected more than 0")


def make_optimizer(config: TrainingConfig, steps: int) -> optax.GradientTransformation:
    """AdamW under the configured schedule over `steps` steps."""
    if config.decay:
        schedule = optax.warmup_cosine_decay_schedule(
            0.0 if config.warmup_steps else config.learning_rate,
            config.learning_rate,
            config.warmup_steps,
            max(steps, config.warmup_steps + 1),
        )
    elif config.warmup_steps:
        schedule = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    else:
        schedule = optax.constant_schedule(config.learning_rate)
    adamw = optax.adamw(schedule, weight_decay=config.weight_decay)
    if config.max_gradient_norm:
        return optax.chain(optax.clip_by_global_norm(config.max_gradient_norm), adamw)
    return adamw
