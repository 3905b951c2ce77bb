"""Traces the steps of a training that the configuration names, for TensorBoard's profiler."""

import pathlib
import shutil
import tempfile
from types import TracebackType
from typing import Any

import jax

from catid2_jax.files import atomic_folder
from catid2_jax.progress import console

PLUGINS = "plugins"
"""Name of the folder beside the curves in which TensorBoard looks for profiles."""


class StepProfile:
    """Context manager that traces whole dispatches, in the first process.

    Attributes:
        folder: where the trace lies once its last step is done.
    """

    def __init__(self, directory: pathlib.Path, steps: tuple[int, ...], description: str) -> None:
        """Plans a trace.

        Args:
            directory: that of the training's curves.
            steps: the steps done before the first traced one and after the last; () for no trace.
            description: what the training is called.
        """
        self._steps, self._description = steps, description
        self.folder = directory / PLUGINS / "profile" / "_".join(("steps", *map(str, steps)))
        self._waits = bool(steps) and jax.process_index() == 0
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> "StepProfile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._temporary:
            self._stop()
        elif self._waits and kind is None:
            console.print(f"{self._description}: no step of {self._steps} was run, none is traced")

    def before(self, done: int, count: int) -> bool:
        """Starts the trace, and returns True, if one of the next `count` steps is to be traced."""
        if not (self._waits and self._steps[0] < done + count and done < self._steps[1]):
            return False
        self._waits = False
        self._temporary = tempfile.TemporaryDirectory()
        jax.profiler.start_trace(self._temporary.name)
        return True

    def after(self, done: int, state: Any) -> bool:
        """Waits for the state, ends the trace and returns True, if its last step is done."""
        if not (self._temporary and done >= self._steps[1]):
            return False
        jax.block_until_ready(state)
        self._stop()
        return True

    def _stop(self) -> None:
        """Puts the trace in its place, whole or not at all."""
        assert self._temporary
        jax.profiler.stop_trace()
        with self._temporary as temporary, atomic_folder(self.folder) as folder:
            for path in pathlib.Path(temporary).rglob("*"):
                if path.is_file():
                    shutil.copy(path, folder)
        self._temporary = None
        console.print(f"{self._description}: the trace is in {self.folder}")
