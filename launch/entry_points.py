"""The commands that the launchers of this folder run."""

import argparse
import sys
from typing import NoReturn

VERBS = (
    "pipeline",
    "prepare",
    "embed",
    "train",
    "assign",
    "retrieve",
    "evaluate",
    "export",
    "inspect",
)
"""The verbs of catid2_jax that run a configuration, here so that launching imports no JAX."""

T5X = ("t5x.train", "t5x.infer", "t5x.eval")


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that every launcher has; its own are added to it."""
    arguments = argparse.ArgumentParser(
        description=description.splitlines()[0],
        epilog="Everything after the entry point goes to it as it is.",
    )
    arguments.add_argument("--dry_run", action="store_true", help="print what would be done")
    arguments.add_argument("entry_point", choices=(*VERBS, *T5X), metavar="ENTRY_POINT")
    arguments.add_argument("arguments", nargs=argparse.REMAINDER, help="of the entry point")
    return arguments


def command(python: str, entry_point: str, arguments: list[str]) -> list[str]:
    """`python -m` the entry point: a verb of catid2_jax, or one of T5X."""
    module = entry_point if entry_point in T5X else f"catid2_jax.{entry_point}"
    return [python, "-m", module, *arguments]


def distributed(entry_point: str) -> list[str]:
    """The flag that says: one of several processes, which know of each other.

    T5X's infer and eval have none, so there they run as one process (a TPU pod needs no flag).
    """
    if entry_point in ("t5x.infer", "t5x.eval"):
        fail(f"found several processes for {entry_point}, expected one: T5X cannot share it here")
    return ["--multiprocess_gpu" if entry_point == "t5x.train" else "--distributed"]


def fail(message: str) -> NoReturn:
    """Ends as bad input does."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
