"""Embeds the products: DIR/embeddings.npy.

    python -m catid2_jax.embed --config=configs/quickstart.py [--workdir=DIR] [--config.x=y ...]

Steps before it that the work directory lacks are run first; an interrupted one is taken up again.
"""

from catid2_jax import cli

if __name__ == "__main__":
    cli.main(lambda config: "embed")
