"""Runs a table of the paper on your data: systems x seeds, with tests and the paper's figures.

    python -m catid2_jax.reproduce table2 --data=DIR [--seeds=3] [--systems=cat_id2,tiger,bm25]
    python -m catid2_jax.reproduce table7 --config=seq2seq --output=runs/mine [--config.x=y ...]

The tables are table2 to table7 and figure5. DIR has catalog.jsonl, queries.SPLIT.jsonl and
qrels.SPLIT.txt of train, test and perhaps dev, each perhaps compressed (.gz); several folders stand
with commas between, and without --data the configuration's own data are taken. --vectors=NAME takes
given vectors, DIR/catalog.NAME.npy and DIR/queries.SPLIT.NAME.npy. The configuration is quickstart
without --config, and its seed the first of --seeds.

Everything goes to OUTPUT, runs/reproduce without --output: a work directory per set of data,
which all tables, systems and seeds share, and TABLE.md, TABLE.csv and TABLE.tex. What is done there
is not done again, and the same command goes on with what was interrupted.
"""

import functools
import sys
from collections.abc import Sequence

from catid2_jax import cli
from catid2_jax.reproduction.command import read_flags, reproduce


def main(argv: Sequence[str] | None = None) -> None:
    """Reproduces as the command line asks for; `argv` has the program's name first."""
    program, *words = sys.argv if argv is None else argv
    with cli.exit_codes():
        flags, rest = read_flags(words)
    cli.main(functools.partial(reproduce, flags), __doc__ or "", [program, *rest])


if __name__ == "__main__":
    main()
