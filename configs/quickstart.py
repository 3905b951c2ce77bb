"""Everything, from the built-in synthetic catalogue to a Recall table, on two CPU cores.

    python -m catid2_jax.pipeline --config=configs/quickstart.py

Hardware: 2 CPU cores.  Time: not yet measured.
"""

from configs.seq2seq import get_config as get_config  # noqa
