"""Runs verbs in processes of their own, which begin with everything imported."""

import ctypes
import dataclasses
import functools
import importlib
import itertools
import multiprocessing
import os
import pathlib
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

from catid2_jax.cli import VERBS, exit_codes

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = [
    f"--config={ROOT / 'tests/plugins/tiny.py'}",
    "--config.systems=('cat_id2','bm25')",
    "--config.rqvae_training.checkpoint_every=10",
    "--config.seq2seq_training.epochs=10",
    "--config.seq2seq_training.checkpoint_every=10",
]
"""Two systems that learn a little from sixty products, and leave two checkpoints of each stage."""

_LONGEST = 600.0  # seconds of a run
_UNREAD = 255  # what multiprocessing says where it could not read the code; no verb ends with it

_context = multiprocessing.get_context("forkserver")


@dataclasses.dataclass(frozen=True)
class Run:
    """How a run ended.

    Attributes:
        code: its exit code; negative for the signal that killed it; None if it is unknown.
        text: what it printed.
    """

    code: int | None
    text: str

    @property
    def refused(self) -> bool:
        """Whether it said in one line what is wrong."""
        lines = [line for line in self.text.splitlines() if line.startswith("error: ")]
        return self.code == 2 and len(lines) == 1 and "Traceback" not in self.text

    @property
    def last(self) -> str:
        """The last line that it printed."""
        if self.code is None:
            return "no exit code could be read"
        return (self.text.strip().splitlines() or [""])[-1]


def prepare_processes() -> None:
    """Has every later process begin with the verbs imported, but with no backend of JAX."""
    _context.set_forkserver_preload([f"catid2_jax.{verb}" for verb in VERBS])


def start(
    verb: str, arguments: list[str], log: pathlib.Path, within: Callable[[], object] = int
) -> multiprocessing.Process:
    """Starts a verb; what it prints goes to a file.

    Args:
        verb: its name.
        arguments: its command line.
        log: the file.
        within: called before it; sets what binds the process.
    """
    process = _context.Process(target=_main, args=(verb, arguments, log, within))
    process.start()
    # Whoever starts a process reads the exit codes of all that it finds here, each of which can be
    # read only once: a thread that waits for its own would find none.
    multiprocessing.process._children.discard(process)
    return process


def finish(process: multiprocessing.Process, log: pathlib.Path) -> Run:
    """Waits for a verb; one that was killed before it began has printed nothing."""
    process.join(_LONGEST)
    if process.is_alive():
        process.kill()
        process.join()
    text = log.read_text(errors="replace") if log.exists() else ""
    return Run(None if process.exitcode == _UNREAD else process.exitcode, text)


def run(
    verb: str, arguments: list[str], log: pathlib.Path, within: Callable[[], object] = int
) -> Run:
    """Runs a verb to its end."""
    return finish(start(verb, arguments, log, within), log)


def on(workdir: pathlib.Path, *more: str) -> list[str]:
    """The arguments for a work directory."""
    return [*CONFIG, f"--workdir={workdir}", *more]


def little_room(size: int) -> Callable[[], object]:
    """Has no file grow beyond a size, as if the disk were full."""
    return functools.partial(_little_room, size)


def _little_room(size: int) -> None:
    # JAX would keep the half of a program that had room.
    jax = importlib.import_module("jax")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def without_privileges() -> None:
    """Has permissions bind root, too: gives up all capabilities, see capset(2)."""
    version_3 = (ctypes.c_uint32 * 2)(0x20080522, 0)
    ctypes.CDLL(None).capset(version_3, (ctypes.c_uint32 * 6)())


_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def changes_of(root: pathlib.Path, log: pathlib.Path, last: int = 0) -> Callable[[], object]:
    """Has each change of the file system below a folder leave a byte in a file.

    Args:
        root: the folder.
        log: the file.
        last: number of the change, from 1, before which the process is killed; 0 for none.
    """
    return functools.partial(_watch, str(root), log, last)


def _watch(root: str, log: pathlib.Path, last: int) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    numbers = itertools.count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            changes = isinstance(arguments[2], int) and bool(arguments[2] & _WRITES)
        else:
            changes = event in _CHANGES
        if not changes or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if os.path.abspath(os.fsdecode(arguments[0])).startswith(root):
            if next(numbers) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(descriptor, b".")

    sys.addaudithook(hook)


def _main(verb: str, arguments: list[str], log: pathlib.Path, within: Callable[[], object]) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    with exit_codes():
        within()
        importlib.import_module(f"catid2_jax.{verb}").main([verb, *arguments])
