"""Keeps Orbax checkpoints of a training state: the last and the best, each whole or not there."""

import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Literal, TypeVar

import jax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

from catid2_jax.errors import InputError
from catid2_jax.files import write_json
from catid2_jax.training.sharding import data_mesh

State = TypeVar("State")
Which = Literal["last", "best"]


class Checkpoints:
    """The checkpoints of one training run: `directory/last` and, by a metric, `directory/best`.

    Orbax writes beside the old checkpoint and renames, so a kill at any moment leaves one.

    Attributes:
        directory: the run's directory, absolute.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        best_metric: str = "",
        best_mode: Literal["min", "max"] = "max",
        best_margin: float = 0.0,
    ) -> None:
        """Opens or creates the directory.

        Args:
            directory: the run's directory.
            best_metric: the figure by which the best evaluation is known; empty to keep no best.
            best_mode: whether a lower ("min") or a higher ("max") figure is better.
            best_margin: by how much at least.
        """
        self.directory = pathlib.Path(directory).absolute()
        self._best_metric, self._best_margin = best_metric, best_margin
        self._sign = -1 if best_mode == "min" else 1
        path = self.directory / "best.json"
        self._best = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        self._managers = {which: _manager(self.directory / which) for which in ("last", "best")}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        for manager in self._managers.values():
            manager.close()

    def save(self, step: int, state: object, evaluated: bool = True) -> None:
        """Saves the last state; it is on disk when this returns.

        Args:
            step: the steps taken.
            state: the state after them.
            evaluated: whether an evaluation that is due after them is done.
        """
        manager, note = self._managers["last"], {"evaluated": evaluated}
        if manager.latest_step() == step:  # as it was before its evaluation
            manager.delete(step)
        manager.save(step, args=ocp.args.StandardSave(state), custom_metadata=note)

    def save_if_best(self, step: int, state: object, figures: Mapping[str, float]) -> None:
        """Saves the state as the best if its figure is better than that of every earlier one.

        Raises:
            InputError: the figures lack the metric.
        """
        if not self._best_metric:
            return
        if self._best_metric not in figures:
            raise InputError("best_metric", repr(self._best_metric), f"one of {', '.join(figures)}")
        value, best = figures[self._best_metric], self._best
        if best:
            gain = self._sign * (value - best["value"])
            if gain <= 0 or gain < self._best_margin:
                return
        # After a kill between the two writes the same state is there already.
        if self._managers["best"].latest_step() != step:
            self._managers["best"].save(step, args=ocp.args.StandardSave(state))
        self._best = {"step": step, "metric": self._best_metric, "value": value}
        if jax.process_index() == 0:
            write_json(self.directory / "best.json", self._best)

    @property
    def best_step(self) -> int | None:
        """The step of the best evaluation so far, or None if there is none."""
        return self._best["step"] if self._best else None

    @property
    def latest_step(self) -> int | None:
        """The step of the last checkpoint, or None if there is none."""
        return self._managers["last"].latest_step()

    @property
    def is_evaluated(self) -> bool:
        """Whether the last checkpoint was saved after the evaluation that was due then, if any."""
        if self.latest_step is None:
            return True
        note = self._managers["last"].metadata(self.latest_step).custom_metadata or {}
        return note.get("evaluated", True)

    def restore(self, template: State, which: Which = "last") -> State:
        """Restores the last or the best state.

        Args:
            template: arrays or ShapeDtypeStructs in the shape of the state; a leaf without a
                sharding is restored whole on every device.
            which: the checkpoint that is restored.

        Raises:
            InputError: there is no checkpoint, or a leaf, which it names, has another shape than in
                the template.
        """
        manager = self._managers[which]
        place = self.directory / which
        step = manager.latest_step()
        if step is None:
            raise InputError(place, "no checkpoint", "a trained model")
        everywhere = NamedSharding(data_mesh(), PartitionSpec())
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None) or everywhere
            ),
            template,
        )
        found, expected = _leaf_shapes(manager.item_metadata(step).tree), _leaf_shapes(shapes)
        for name in sorted(found.keys() | expected.keys()):
            if found.get(name) != expected.get(name):
                raise InputError(
                    place,
                    f"{name} of shape {found.get(name, 'none')} at step {step}",
                    expected.get(name, "none"),
                )
        return manager.restore(step, args=ocp.args.StandardRestore(shapes))


def _manager(directory: pathlib.Path) -> ocp.CheckpointManager:
    """Returns a manager that keeps one checkpoint."""
    return ocp.CheckpointManager(
        directory,
        item_handlers=ocp.StandardCheckpointHandler(),
        options=ocp.CheckpointManagerOptions(
            max_to_keep=1,
            cleanup_tmp_directories=True,
            # The loop donates the state's buffers to the next step right after a save.
            enable_async_checkpointing=False,
        ),
    )


def _leaf_shapes(tree: object) -> dict[str, tuple[int, ...]]:
    """Returns each leaf's shape by its path, of a state or of what Orbax says of one."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        "/".join(re.sub(r"\W", "", str(key)) for key in path): leaf.shape for path, leaf in leaves
    }
