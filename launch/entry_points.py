"""The commands that the launchers of this folder run."""

from collections.abc import Sequence

from catid2_jax.constraints import BUCKET_URL
from catid2_jax.errors import InputError

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

ALONE = ("reproduce", "report", "serve", "import_data", "convert_checkpoint")
"""The verbs that are one process."""

T5X = ("t5x.train", "t5x.infer", "t5x.eval")

NAMES = (*VERBS, *ALONE, *T5X)


def command(python: str, entry_point: str, arguments: Sequence[str]) -> list[str]:
    """`python -m` the entry point: a verb of catid2_jax, or one of T5X with our gin files."""
    module, _, script = entry_point.partition(".")
    words = ["catid2_jax.t5x", script] if entry_point in T5X else [f"catid2_jax.{module}"]
    return [python, "-m", *words, *arguments]


def is_in_bucket(arguments: Sequence[str]) -> bool:
    """Whether a command line's work directory is the URL of a bucket's folder."""
    words = " ".join(arguments).replace("--workdir ", "--workdir=").split()
    return any(
        name == "--workdir" and BUCKET_URL.fullmatch(value)
        for name, _, value in (word.partition("=") for word in words)
    )


def check_shared(arguments: Sequence[str]) -> None:
    """Raises InputError if several processes would work in a bucket that is not mounted."""
    if is_in_bucket(arguments):
        raise InputError(
            "--workdir", "the URL of a bucket, for several processes", "a folder that they share"
        )


def distributed(entry_point: str, arguments: Sequence[str]) -> list[str]:
    """The flags that say: one of several processes, which know of each other.

    Raises:
        InputError: an entry point that is one process, or a work directory that none shares.
    """
    check_shared(arguments)
    if entry_point in ALONE:
        raise InputError(
            "", f"several processes for {entry_point}", "one: it cannot share its work"
        )
    return ["--distributed"]


def on_tpu(entry_point: str) -> list[str]:
    """The flags with which an entry point runs on every worker of a TPU."""
    return [] if entry_point in ALONE else ["--distributed"]
