"""Stage 1 on the built-in synthetic catalogue, sized for two CPU cores.

    python -m catid2_jax.train --config=configs/rqvae.py          CAT-ID2
    python -m catid2_jax.train --config=configs/rqvae.py:tiger    TIGER

Hardware: 2 CPU cores.  Time: 2 minutes.  Expect near 1 % collisions before reassignment.
"""

import ml_collections

from catid2_jax.config import default_config


def get_config(system: str = "cat_id2") -> ml_collections.ConfigDict:
    """Stage 1 of a system."""
    config = default_config()
    config.systems = (system,)
    config.stage = "docids"
    return config
