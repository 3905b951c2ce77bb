"""Runs verbs in processes of their own, which begin with everything imported."""

import dataclasses
import importlib
import multiprocessing
import os
import pathlib
import sys

from catid2_jax.cli import VERBS

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

_context = multiprocessing.get_context("forkserver")


@dataclasses.dataclass(frozen=True)
class Run:
    """How a run ended.

    Attributes:
        code: its exit code; negative for the signal that killed it.
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
        return (self.text.strip().splitlines() or [""])[-1]


def prepare_processes() -> None:
    """Has every later process begin with the verbs imported, but with no backend of JAX."""
    _context.set_forkserver_preload([f"catid2_jax.{verb}" for verb in VERBS])


def start(verb: str, arguments: list[str], log: pathlib.Path) -> multiprocessing.Process:
    """Starts a verb; what it prints goes to a file."""
    process = _context.Process(target=_main, args=(verb, arguments, log))
    process.start()
    return process


def finish(process: multiprocessing.Process, log: pathlib.Path) -> Run:
    """Waits for a verb."""
    process.join(_LONGEST)
    if process.is_alive():
        process.kill()
        process.join()
    return Run(process.exitcode, log.read_text(errors="replace"))


def run(verb: str, arguments: list[str], log: pathlib.Path) -> Run:
    """Runs a verb to its end."""
    return finish(start(verb, arguments, log), log)


def on(workdir: pathlib.Path, *more: str) -> list[str]:
    """The arguments for a work directory."""
    return [*CONFIG, f"--workdir={workdir}", *more]


def _main(verb: str, arguments: list[str], log: pathlib.Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    importlib.import_module(f"catid2_jax.{verb}").main([verb, *arguments])
