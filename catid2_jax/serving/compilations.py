"""Counts compilations by XLA, so that a service can show that it has none while it serves."""

import contextlib
import threading
from collections.abc import Iterator

import jax.monitoring

_EVENT = "/jax/core/compile/backend_compile_duration"


class Compilations:
    """Compilations since it was made, those that prepare a version apart from the others.

    Attributes:
        preparing: number of compilations in `prepared` blocks.
        serving: number of all others.
    """

    def __init__(self) -> None:
        self.preparing = self.serving = 0
        self._thread = threading.local()
        jax.monitoring.register_event_duration_secs_listener(self._count)

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Counts what this thread compiles in the block as preparation."""
        self._thread.prepares = True
        try:
            yield
        finally:
            self._thread.prepares = False

    def _count(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event != _EVENT:
            return
        if getattr(self._thread, "prepares", False):
            self.preparing += 1
        else:
            self.serving += 1
