"""Turns a T5's checkpoint into another form, and makes room in it for the ID tokens.

    python -m catid2_jax.convert_checkpoint --from=PATH --to=DIR --format=t5x|huggingface
        [--vocabulary=spiece.model --extra_ids=100 --levels=4 --codebook_size=256]
        [--init=codebooks --codebooks=WORKDIR|FILE.npy] [--seed=0] [--which=best]

PATH: T5X's (Orbax, or the older msgpack with zarr), Hugging Face's (safetensors), or a work
directory with a trained stage 2, whose last checkpoint it is without --which. DIR must be new.
--vocabulary: what lies beside the checkpoint if it is left out; Hugging Face's form needs one.
--extra_ids: ids after the pieces; 100 for T5's 32,000 pieces.
--levels, --codebook_size: ID tokens that a checkpoint without them gets. --init=statistics draws
their rows with the mean and spread of the text's; =codebooks turns them from those of stage 1.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import get_args

from catid2_jax.checkpoints.folder import Format, read_checkpoint, write_checkpoint
from catid2_jax.checkpoints.id_rows import find_vocabulary, with_id_tokens
from catid2_jax.checkpoints.trained import read_codebooks
from catid2_jax.cli import ArgumentParser, exit_codes
from catid2_jax.constraints import LocalPath, NonNegativeInt, Place, Seed, check_value
from catid2_jax.errors import InputError
from catid2_jax.progress import console
from catid2_jax.remote.mirror import fetched, written
from catid2_jax.training.checkpoint import Which

_TEXTS = ("vocabulary", "codebooks")
_NUMBERS = dict.fromkeys(("levels", "codebook_size", "extra_ids"), NonNegativeInt) | {"seed": Seed}
_HINTS = dict.fromkeys(("from", "to"), Place) | dict.fromkeys(_TEXTS, LocalPath) | _NUMBERS


def main(argv: Sequence[str] | None = None) -> None:
    """Converts as the command line asks for; `argv` has the program's name first."""
    program, *words = sys.argv if argv is None else argv
    with exit_codes(_HINTS):
        _convert(_parser(program).parse_args(words))


def _convert(flags: argparse.Namespace) -> None:
    for name, hint in _HINTS.items():
        check_value(getattr(flags, name), hint, name)
    if (flags.init == "codebooks") != bool(flags.codebooks):
        expected = "a path with --init=codebooks, and none otherwise"
        raise InputError("codebooks", repr(flags.codebooks), expected)
    source = fetched(getattr(flags, "from"), "from")
    checkpoint = read_checkpoint(source, flags.which)
    rows, over = checkpoint.rows, checkpoint.normalize_over
    vocabulary = find_vocabulary(
        checkpoint, flags.vocabulary, flags.levels, flags.codebook_size, flags.extra_ids
    )
    if vocabulary:
        codebooks = read_codebooks(flags.codebooks, flags.which) if flags.codebooks else None
        checkpoint = with_id_tokens(checkpoint, vocabulary, source, codebooks, flags.seed)
    with written(flags.to, "to", new=True) as folder:
        write_checkpoint(folder, flags.format, checkpoint, vocabulary)
    console.print(f"{flags.to}: step {checkpoint.step}, {rows:,} -> {checkpoint.rows:,} rows")
    if over != "full":
        console.print(f"trained over {over!r}: search with NORMALIZE_OVER = {over!r}, not 'full'")


def _parser(program: str) -> ArgumentParser:
    parser = ArgumentParser(prog=pathlib.Path(program).name, description=__doc__)
    parser.add_argument("--from", required=True, metavar="PATH")
    parser.add_argument("--to", required=True, metavar="DIR")
    parser.add_argument("--format", required=True, choices=get_args(Format))
    parser.add_argument("--init", choices=("statistics", "codebooks"), default="statistics")
    parser.add_argument("--which", choices=get_args(Which), default="last")
    for names, kind in ((_TEXTS, str), (_NUMBERS, int)):
        for name in names:
            parser.add_argument(f"--{name}", type=kind, default=kind())
    return parser


if __name__ == "__main__":
    main()
