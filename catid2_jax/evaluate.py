"""Measures Recall@k beside the baselines: DIR/metrics.json.

    python -m catid2_jax.evaluate --config=configs/quickstart.py [--workdir=DIR] [--config.x=y ...]

Steps before it that the work directory lacks are run first; an interrupted one is taken up again.
"""

from catid2_jax import cli

if __name__ == "__main__":
    cli.main(lambda config: "evaluate")
