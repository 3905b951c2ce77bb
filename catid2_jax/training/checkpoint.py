"""Orbax checkpoints of a training state: the last one, whole or not there."""

import os
import pathlib
import re
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
            item_handlers=ocp.StandardCheckpointHandler(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=1,
                cleanup_tmp_directories=True,
                # The loop donates the state's buffers to the next step right after a save.
                enable_async_checkpointing=False,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, step: int, state: object) -> None:
        """Saves the state; it is on disk when this returns."""
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
            InputError: there is no checkpoint, or a leaf is not as in the template (which, and both
                shapes).
        """
        step = self.latest_step
        if step is None:
            raise InputError(f"{self._directory}: found no checkpoint, expected a trained model")
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        found, expected = _leaf_shapes(self._manager.item_metadata(step).tree), _leaf_shapes(shapes)
        for name in sorted(found.keys() | expected.keys()):
            if found.get(name) != expected.get(name):
                raise InputError(
                    f"{self._directory}: the checkpoint of step {step} has {name} of shape "
                    f"{found.get(name, 'none')}, expected {expected.get(name, 'none')}"
                )
        return self._manager.restore(step, args=ocp.args.StandardRestore(shapes))


def _leaf_shapes(tree: object) -> dict[str, tuple[int, ...]]:
    """Shape of each leaf by its path; the same for a state and for what Orbax says of one."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        "/".join(re.sub(r"\W", "", str(key)) for key in path): leaf.shape for path, leaf in leaves
    }
