"""Writes training curves for TensorBoard."""

import os
from collections.abc import Mapping

import jax
import tensorboardX


class MetricWriter:
    """Writes scalars as TensorBoard events into a directory; in the first process only."""

    def __init__(self, directory: str | os.PathLike[str], first_step: int) -> None:
        """Opens the directory, and voids what an interrupted run wrote from `first_step` on."""
        self._writer = (
            tensorboardX.SummaryWriter(os.fspath(directory), purge_step=first_step)
            if jax.process_index() == 0
            else None
        )

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._writer.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to the curve of every value."""
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
