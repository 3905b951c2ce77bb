"""Writes training curves for TensorBoard, and reads them."""

import os
import pathlib
import struct
from collections.abc import Iterator, Mapping

import jax
import tensorboardX
from tensorboardX.proto.event_pb2 import Event, SessionLog

from catid2_jax.files import atomic_write

_LENGTH = struct.Struct("<Q")  # of a record's data; four bytes of checksum follow it, and the data


class MetricWriter:
    """Writes scalars as TensorBoard events into a directory; in the first process only."""

    def __init__(self, directory: str | os.PathLike[str], first_step: int) -> None:
        """Opens the directory, and voids what an interrupted run wrote from `first_step` on."""
        self._writer = None
        if jax.process_index() == 0:
            _join(pathlib.Path(directory))
            self._writer = tensorboardX.SummaryWriter(os.fspath(directory), purge_step=first_step)

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


def read_metrics(directory: str | os.PathLike[str]) -> dict[str, list[tuple[int, float]]]:
    """Reads the curves that `MetricWriter` has written into a directory.

    Args:
        directory: where they lie; one without any gives none.

    Returns:
        Name -> [(step, value), ...], without what a resumed run has written anew.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(pathlib.Path(directory).glob("events.out.tfevents.*")):
        for event in _events(_whole_records(path.read_bytes())):
            if event.session_log.status == SessionLog.START:
                for curve in curves.values():
                    curve[:] = [point for point in curve if point[0] < event.step]
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return {name: curve for name, curve in curves.items() if curve}


def _events(content: bytes) -> Iterator[Event]:
    """Yields the events of a file of whole records."""
    start = 0
    while start < len(content):
        (length,) = _LENGTH.unpack_from(content, start)
        start += _LENGTH.size + 4
        yield Event.FromString(content[start : start + length])
        start += length + 4


def _join(directory: pathlib.Path) -> None:
    """Makes one file of those that earlier runs have left, so that there are two at most."""
    files = sorted(directory.glob("events.out.tfevents.*"))
    if len(files) > 1:
        with atomic_write(files[0], "wb") as joined:
            joined.writelines(_whole_records(path.read_bytes()) for path in files)
        for path in files[1:]:
            path.unlink()


def _whole_records(content: bytes) -> bytes:
    """A file of events without the record that a kill has cut short."""
    end = after = 0
    while after <= len(content):
        end = after
        if len(content) < end + _LENGTH.size:
            break
        (length,) = _LENGTH.unpack_from(content, end)
        after = end + _LENGTH.size + 4 + length + 4
    return content[:end]
