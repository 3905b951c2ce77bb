"""Trains stage 1 (document IDs) with configs/rqvae.py, stage 2 (T5) with configs/seq2seq.py.

    python -m catid2_jax.train --config=configs/rqvae.py [--workdir=DIR] [--config.x=y ...]

Steps before it that the work directory lacks are run first; an interrupted one is taken up again.
"""

from collections.abc import Sequence

from catid2_jax import cli
from catid2_jax.config import Config
from catid2_jax.steps.chain import run_until
from catid2_jax.workdir import Workdir


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the verb as the command line asks for."""
    cli.main(run, __doc__ or "", argv)


def run(config: Config, workdir: Workdir) -> None:
    """Brings the work directory up to the stage that the configuration names."""
    run_until(config, workdir, "docids" if config.stage == "docids" else "train_seq2seq")


if __name__ == "__main__":
    main()
