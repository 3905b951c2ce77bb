"""Trains stage 1 (the RQ-VAE) with configs/rqvae.py, stage 2 (T5) with configs/seq2seq.py.

    python -m catid2_jax.train --config=configs/rqvae.py [--workdir=DIR] [--config.x=y ...]

Steps before it that the work directory lacks are run first; an interrupted one is taken up again.
"""

from catid2_jax import cli

if __name__ == "__main__":
    cli.main(lambda config: f"train_{config.stage}")
