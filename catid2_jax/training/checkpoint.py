"""Orbax checkpoints of a training state: the last one, whole or not there."""

import os
import pathlib
from typing import TypeVar

import jax
import orbax.checkpoint as ocp

from catid2_jax.errors import InputError

State = TypeVar("State")


class Checkpoints:
    """The checkpoints of one training run in `directory`; the latest is kept.

    Orbax writes beside the old checkpoint and renames, so a kill at any moment leaves one.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = pathlib.Path(directory).absolute()
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(max_to_keep=1, cleanup_tmp_directories=True),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, step: int, state: object) -> None:
        """Saves in the background; the next `save` and the end of the block wait for it."""
        self._manager.save(step, args=ocp.args.StandardSave(state))

    @property
    def latest_step(self) -> int | None:
        """The step of the latest checkpoint, or None if there is none."""
        return self._manager.latest_step()

    def restore_latest(self, template: State) -> State:
        """The latest state.

        Args:
            template: arrays or ShapeDtypeStructs in the shape of the state.

        Raises:
            InputError: there is no checkpoint, or it does not fit the template.
        """
        step = self.latest_step
        if step is None:
            raise InputError(f"{self._directory}: found no checkpoint, expected a trained model")
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(shapes))
        except (ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self._directory}: the checkpoint of step {step} is not one of this model "
                f"({reason})"
            ) from error
