"""SIGINT and SIGTERM: they end the program, and wait while there is something to be saved first.

SLURM, Cloud TPU and `docker stop` send SIGTERM some seconds before they kill; Ctrl-C sends SIGINT.
"""

import contextlib
import gc
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

NUMBERS = (signal.SIGINT, signal.SIGTERM)

_SHORTLY = 0.01  # seconds after which a signal comes again that nothing could be raised for
_SECOND = 1.0  # seconds from which on a second Ctrl-C is meant: a launcher may pass on one twice


class Terminated(BaseException):
    """SIGTERM has come, as KeyboardInterrupt says of SIGINT."""


class Interruption(BaseException):
    """A signal has come where nothing needs to be saved first; see `DeferredSignals.at_once`."""


class DeferredSignals:
    """Context manager in which SIGINT and SIGTERM only are noted; at its end they act.

    What they then do is what they did before. A second Ctrl-C acts at once. In other threads than
    the main one, which get no signals, it does nothing.

    Attributes:
        received: the first signal that has come, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._at_once = False
        self._since = 0.0
        self._handlers: dict[signal.Signals, object] = {}

    def __enter__(self) -> "DeferredSignals":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in NUMBERS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)  # type: ignore[arg-type]
        if self.received and kind is None:  # an error says more
            signal.raise_signal(self.received)

    @contextlib.contextmanager
    def at_once(self, allowed: bool = True) -> Iterator[None]:
        """In this block, a signal raises Interruption, if that is allowed."""
        self._at_once = allowed
        try:
            if allowed and self.received:
                raise Interruption
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        second = (
            self.received is not None and number == signal.SIGINT and now - self._since > _SECOND
        )
        if self.received is None:
            self.received, self._since = signal.Signals(number), now
        if not (self._at_once or second):
            return
        if _comes_again(number, frame):  # once: each call sends one signal
            return
        if self._at_once:
            self._at_once = False
            raise Interruption
        raise KeyboardInterrupt


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Has SIGTERM raise Terminated in this block, and SIGINT KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not _comes_again(number, frame):
            raise KeyboardInterrupt

    def terminate(number: int, frame: FrameType | None) -> None:
        if not _comes_again(number, frame):
            raise Terminated

    wanted = {signal.SIGINT: interrupt, signal.SIGTERM: terminate}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _comes_again(number: int, frame: FrameType | None) -> bool:
    """Whether the program is where what is raised is ignored; the signal then comes again.

    What is raised in a callback of the garbage collector, such as JAX's, or in `__del__` is printed
    and forgotten.

    Args:
        number: the signal.
        frame: where the program is.
    """
    callbacks = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame:
        if frame.f_code in callbacks or frame.f_code.co_name == "__del__":
            again = threading.Timer(_SHORTLY, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return True
        frame = frame.f_back
    return False


_is_program = False  # whether the package is run as a program


def end_while_importing() -> None:
    """Has signals end a command without a traceback while its modules are imported.

    Only where the package is run as a program; a library leaves signals alone.
    """
    global _is_program
    name = pathlib.PurePath(sys.argv[0]).name if sys.argv else ""
    _is_program = name in ("-m", "catid2")
    if _is_program and threading.current_thread() is threading.main_thread():
        for number in NUMBERS:
            signal.signal(number, lambda number, frame: end(signal.Signals(number)))


def end(number: signal.Signals) -> NoReturn:
    """Ends the program by a signal's exit code, as a shell has it, and says so.

    It ends at once: a library's threads that still run must not find a half-dismantled Python.
    """
    word = "interrupted" if number == signal.SIGINT else "terminated"
    with contextlib.suppress(OSError, RuntimeError):  # a closed pipe, a print that is interrupted
        print(f"{word}; the same command goes on from here", file=sys.stderr, flush=True)
        sys.stdout.flush()
    if _is_program:
        os._exit(128 + number)
    sys.exit(128 + number)
