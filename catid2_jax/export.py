"""Writes the trained retrieval as files that JAX runs without this package.

    python -m catid2_jax.export --config=configs/quickstart.py [--workdir=DIR] [--config.x=y ...]

Steps before it that the work directory lacks are run first. `config.retrieve` says how many beams
and results, what a code competes with, which products and, by `param_dtype`, in which type the
network is kept. Every system that generates IDs is exported to DIR/<system>/export;
`catid2_jax/steps/export.py` says what the files are and how to use them.
"""

from collections.abc import Sequence

from catid2_jax import cli
from catid2_jax.config import Config, view
from catid2_jax.errors import InputError
from catid2_jax.loading import TRAINED_READS
from catid2_jax.resolution import resolve_systems
from catid2_jax.steps import export
from catid2_jax.steps.chain import run_until
from catid2_jax.workdir import Workdir, place_of


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the verb as the command line asks for."""
    cli.main(run, __doc__ or "", argv)


def run(config: Config, workdir: Workdir) -> None:
    """Trains what is not trained and exports it."""
    systems = [s for s in resolve_systems(config).values() if s.row.retriever == "generative"]
    if not systems:
        raise InputError(
            "config.systems", config.systems, "one that generates IDs, such as 'cat_id2'"
        )
    run_until(config, workdir, "train_seq2seq")
    for system in systems:
        reads = ("retrieve", *TRAINED_READS)
        export.run(view(system.config, reads, "export"), place_of(system, config, workdir), system)


if __name__ == "__main__":
    main()
