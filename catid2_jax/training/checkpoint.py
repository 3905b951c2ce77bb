"""Keeps Orbax checkpoints of a training state: the last and the best, each whole or not there.

Beside a checkpoint's files lies their digest. One that is not as it was saved, or was never
finished, counts as not there, and the one before it, which is kept too, takes its place.
"""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

from catid2_jax.errors import InputError
from catid2_jax.files import DIGESTS, file_digest, read_sealed, sync_tree, write_sealed
from catid2_jax.processes import wait_for_all
from catid2_jax.progress import console
from catid2_jax.training.sharding import data_mesh

State = TypeVar("State")
Which = Literal["last", "best"]

_KEPT = 2  # checkpoints, so that there is one before the newest


class Checkpoints:
    """The checkpoints of one training run: `directory/last` and, by a metric, `directory/best`.

    Orbax writes beside the old checkpoint and renames, so a kill at any moment leaves one. A
    warning names every checkpoint that is damaged; the next one that is saved takes its place.

    Attributes:
        directory: the run's directory, absolute.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        best_metric: str = "",
        best_mode: Literal["min", "max"] = "max",
        best_margin: float = 0.0,
        read_only: bool = False,
    ) -> None:
        """Opens or creates the directory.

        Args:
            directory: the run's directory.
            best_metric: the figure by which the best evaluation is known; empty to keep no best.
            best_mode: whether a lower ("min") or a higher ("max") figure is better.
            best_margin: by how much at least.
            read_only: whether the directory is left as it is, while another process may save.
        """
        self.directory = pathlib.Path(directory).absolute()
        self._best_metric, self._best_margin = best_metric, best_margin
        self._sign = -1 if best_mode == "min" else 1
        self._managers = {
            which: _manager(self.directory / which, read_only) for which in ("last", "best")
        }
        self._steps: dict[Which, int | None] = {}

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

        Raises:
            InputError: a number in it is not finite.
        """
        self._save("last", step, state, {"evaluated": evaluated})

    def save_if_best(self, step: int, state: object, figures: Mapping[str, float]) -> None:
        """Saves the state as the best if its figure is better than that of every earlier one.

        Raises:
            InputError: the figures lack the metric, or a number in the state is not finite.
        """
        if not self._best_metric:
            return
        if self._best_metric not in figures:
            raise InputError("best_metric", repr(self._best_metric), f"one of {', '.join(figures)}")
        value, best = figures[self._best_metric], self._newest("best")
        if best is not None:
            gain = self._sign * (value - _read_digests(self._path("best", best))["value"])
            if gain <= 0 or gain < self._best_margin:
                return
        self._save("best", step, state, {"metric": self._best_metric, "value": value})

    @property
    def best_step(self) -> int | None:
        """The step of the best evaluation so far, or None if there is none."""
        return self._newest("best")

    @property
    def latest_step(self) -> int | None:
        """The step of the last checkpoint, or None if there is none."""
        return self._newest("last")

    def _path(self, which: Which, step: int) -> pathlib.Path:
        return self.directory / which / str(step)

    def _newest(self, which: Which) -> int | None:
        if which not in self._steps:
            self._steps[which] = newest_step(self.directory / which)
        return self._steps[which]

    def _save(self, which: Which, step: int, state: object, note: Mapping[str, Any]) -> None:
        """Saves a state, and then what shows that it is whole."""
        bad = _not_finite(state)
        if bad:
            raise InputError(
                self._path(which, step),
                f"NaN or infinity in {bad}",
                "finite numbers: try a lower learning rate, or gradient clipping",
            )
        manager = self._managers[which]
        for there in manager.all_steps():
            if there >= step:  # damaged, unfinished or of a training that went on from before it
                manager.delete(there)
        manager.save(step, args=ocp.args.StandardSave(state))
        wait_for_all(f"{which} is saved")
        if jax.process_index() == 0:
            _write_digests(self._path(which, step), note)
        wait_for_all(f"{which} has its digests")
        self._steps[which] = step

    @property
    def is_evaluated(self) -> bool:
        """Whether the last checkpoint was saved after the evaluation that was due then, if any."""
        if self.latest_step is None:
            return True
        return bool(_read_digests(self._path("last", self.latest_step))["evaluated"])

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
        place, step = self.directory / which, self._newest(which)
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


def newest_step(folder: pathlib.Path) -> int | None:
    """The newest checkpoint in a folder that is as it was saved, or None if there is none.

    Prints a warning that names each one that is newer and damaged.
    """
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    for step in sorted(steps, reverse=True):
        fault = _fault(folder / str(step))
        if not fault:
            return step
        console.print(
            f"warning: the checkpoint {folder / str(step)} is left out: {fault}", markup=False
        )
    return None


def _fault(checkpoint: pathlib.Path) -> str:
    """What is wrong with a checkpoint's files; empty if they are as they were saved."""
    try:
        digests = _read_digests(checkpoint)["files"]
    except FileNotFoundError:
        return f"no {DIGESTS}, so that saving it was cut short"
    except (OSError, ValueError) as error:
        return f"{DIGESTS}: {error}"
    for name, digest in digests.items():
        try:
            if file_digest(checkpoint / name) != digest:
                return f"{name} has changed since it was saved"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return ""


def _read_digests(checkpoint: pathlib.Path) -> dict[str, Any]:
    return read_sealed(checkpoint / DIGESTS)


def _write_digests(checkpoint: pathlib.Path, note: Mapping[str, Any]) -> None:
    """Brings a checkpoint to disk and then writes what shows that it is whole.

    Args:
        checkpoint: its folder.
        note: `metric` and `value` by which it is the best, or whether it is `evaluated`.
    """
    paths = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    files = {path.relative_to(checkpoint).as_posix(): file_digest(path) for path in paths}
    sync_tree(checkpoint)
    write_sealed(checkpoint / DIGESTS, {"files": files, **note})


def _not_finite(state: object) -> str:
    """The first leaf of a state with NaN or infinity, or nothing."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    floats = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }
    finite = _are_finite(floats)
    return next((name for name, value in finite.items() if not value), "")


@jax.jit
def _are_finite(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.isfinite(leaf).all() for name, leaf in leaves.items()}


def _manager(directory: pathlib.Path, read_only: bool) -> ocp.CheckpointManager:
    """Returns a manager that keeps the newest checkpoints."""
    return ocp.CheckpointManager(
        directory,
        item_handlers=ocp.StandardCheckpointHandler(),
        options=ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
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
