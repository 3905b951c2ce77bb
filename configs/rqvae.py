"""Stage 1 on the built-in synthetic catalogue, sized for two CPU cores.

    python -m catid2_jax.train --config=configs/rqvae.py          CAT-ID2
    python -m catid2_jax.train --config=configs/rqvae.py:tiger    TIGER

Hardware: 2 CPU cores.  Time: 2 minutes.  Expect near 1 % collisions before reassignment.
"""

import ml_collections

from catid2_jax.config import default_config, set_two_core_size
from catid2_jax.presets import set_preset


def get_config(preset: str = "cat_id2") -> ml_collections.ConfigDict:
    """Stage 1 with a preset of `catid2_jax.presets`."""
    config = default_config()
    set_preset(config, preset)
    set_two_core_size(config)
    config.stage = "rqvae"
    return config
