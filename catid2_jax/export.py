"""Writes the trained retrieval as files that JAX runs without this package: DIR/export.

    python -m catid2_jax.export --config=configs/quickstart.py [--workdir=DIR] [--config.x=y ...]

Steps before it that the work directory lacks are run first. `config.retrieve` says how many beams
and results, which scores, which products and, by `weights`, in which type the network is kept.
`catid2_jax/steps/export.py` says what the files are and how to use them.
"""

from catid2_jax import cli
from catid2_jax.config import Config
from catid2_jax.steps import export
from catid2_jax.steps.chain import run_until
from catid2_jax.steps.workdir import Workdir


def run(config: Config, workdir: Workdir) -> None:
    """Trains what is not trained and exports it."""
    run_until(config, workdir, "train_seq2seq")
    export.run(config, workdir)


if __name__ == "__main__":
    cli.main_with(run)
