"""Retrieves for the test queries, or for --config.retrieve.queries: DIR/run.trec.

    python -m catid2_jax.retrieve --config=configs/quickstart.py [--workdir=DIR] [--config.x=y ...]

Steps before it that the work directory lacks are run first; an interrupted one is taken up again.
"""

from catid2_jax import cli

if __name__ == "__main__":
    cli.main(lambda config: "retrieve")
