"""Reads or generates the data and preprocesses it: DIR/data, and Table 1.

    python -m catid2_jax.prepare --config=configs/quickstart.py [--workdir=DIR] [--config.x=y ...]

Steps before it that the work directory lacks are run first; an interrupted one is taken up again.
"""

from catid2_jax import cli

if __name__ == "__main__":
    cli.main(lambda config: "prepare")
