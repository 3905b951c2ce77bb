"""Tells where the time of a training goes: input, host or device."""

import time
from typing import Literal, TypeAlias

Part: TypeAlias = Literal["input", "host", "device"]
"""Making batches and sending them to the devices, all else that Python does, and waiting for the
devices' results."""


class StepClock:
    """Splits the time between two points of the curves among its parts.

    The loop calls `lap` wherever one part ends. It waits for the devices where it reads metrics,
    and nowhere else; what they do while the host is at work costs no time and counts for nothing.
    """

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._begin()

    def _begin(self) -> None:
        self._seconds: dict[Part, float] = {"input": 0.0, "host": 0.0, "device": 0.0}
        self._void = False

    def lap(self, part: Part) -> None:
        """Counts the time since the last lap for a part."""
        now = time.perf_counter()
        self._seconds[part] += now - self._last
        self._last = now

    def skip(self) -> None:
        """Counts the time since the last lap for none: evaluations and checkpoints."""
        self._last = time.perf_counter()

    def void(self) -> None:
        """Notes that the time until the next `take` is not of steps alone, but of a compilation."""
        self._void = True

    def take(self, steps: int) -> dict[str, float]:
        """Returns the seconds per step of each part since the last call, and begins anew.

        Args:
            steps: steps whose metrics were read in this time.

        Returns:
            `time/PART` -> seconds; nothing if the time is void.
        """
        seconds, is_void = self._seconds, self._void
        self._begin()
        return {} if is_void else {f"time/{part}": s / steps for part, s in seconds.items()}
