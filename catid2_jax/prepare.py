"""Reads or generates the data, preprocesses them and prints the paper's Table 1.

    python -m catid2_jax.prepare --config=configs/quickstart.py [--workdir=DIR] [--config.x=y ...]

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
    """Brings the work directory up to the step."""
    run_until(config, workdir, "prepare")


if __name__ == "__main__":
    main()
