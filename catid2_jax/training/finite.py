"""Stops a training whose numbers are no longer finite, and says where that began."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.errors import InputError
from catid2_jax.files import write_json
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.optimizer import TrainingConfig
from catid2_jax.training.sampler import EpochSampler

DocumentIds: TypeAlias = Callable[[np.ndarray], Sequence[str]]
"""Examples of a batch, int [B] -> the ids of their documents."""


def example_numbers(examples: np.ndarray) -> list[str]:
    """The examples themselves, where nothing is known of their documents."""
    return [str(example) for example in examples]


_SHOWN = 3  # terms and documents that the line names; the file has all


@dataclasses.dataclass(frozen=True)
class FiniteCheck:
    """Refuses metrics and states of a training that are not finite.

    Attributes:
        description: what the training is called.
        sampler: the order of the examples.
        config: how it trains.
        checkpoints: its checkpoints.
        document_ids: tells the documents of a batch.
    """

    description: str
    sampler: EpochSampler
    config: TrainingConfig
    checkpoints: Checkpoints
    document_ids: DocumentIds

    def metrics(self, first: int, values: Mapping[str, np.ndarray]) -> None:
        """Checks the metrics of some steps.

        Args:
            first: the steps before them.
            values: each metric at each step, float [steps].

        Raises:
            InputError: one is not finite.
        """
        bad = {name: np.flatnonzero(~np.isfinite(value)) for name, value in values.items()}
        bad = {name: steps for name, steps in bad.items() if steps.size}
        if not bad:
            return
        step = min(int(steps[0]) for steps in bad.values())
        names = [name for name, steps in bad.items() if steps[0] == step]
        # The sum says less than its terms, and a figure such as level 1's perplexity no more.
        names.sort(key=lambda name: (name == "loss", "/" in name))
        terms = [f"{name} = {float(values[name][step])}" for name in names[:_SHOWN]]
        self._refuse(first + step, ", ".join(terms), names)

    def state(self, done: int, state: Any) -> None:
        """Checks the state after `done` steps.

        Raises:
            InputError: a parameter, or what the optimizer keeps of one, is not finite.
        """
        leaves = jax.tree.leaves(state)
        if not _all_finite([leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]):
            self._refuse(done - 1, "parameters that are not finite", ["parameters"])

    def _refuse(self, step: int, found: str, names: list[str]) -> None:
        documents = list(self.document_ids(self.sampler(step, 1)[0]))
        path = self.checkpoints.directory / "not_finite.json"
        write_json(path, {"step": step + 1, "not finite": names, "documents": documents})
        shown = ", ".join(documents[:_SHOWN])
        last, config = self.checkpoints.latest_step, self.config
        clipping = config.max_gradient_norm or math.inf
        raise InputError(
            self.description,
            f"{found} at step {step + 1}, in a batch of {len(documents)} documents "
            f"({shown}, ...; all are in {path})",
            f"finite numbers. The last good checkpoint is {f'of step {last}' if last else 'none'}. "
            f"Try a learning_rate below {config.learning_rate:g}, a max_gradient_norm below "
            f"{min(clipping, 1.0):g}, or dtype float32",
        )


@jax.jit
def _all_finite(leaves: list[jax.Array]) -> jax.Array:
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
