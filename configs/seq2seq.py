"""Stage 2 on the built-in synthetic catalogue, sized for two CPU cores.

    python -m catid2_jax.train --config=configs/seq2seq.py --workdir=runs/rqvae

goes on from the stage 1 of configs/rqvae.py; without `--workdir` it runs its own first.
Hardware: 2 CPU cores.  Time: 5 minutes after stage 1.
"""

import ml_collections

from catid2_jax.config import default_config, set_two_core_size
from catid2_jax.presets import set_preset


def get_config(preset: str = "cat_id2") -> ml_collections.ConfigDict:
    """Both stages, stage 1 with a preset of `catid2_jax.presets`."""
    config = default_config()
    set_preset(config, preset)
    set_two_core_size(config)
    config.stage = "seq2seq"
    return config
