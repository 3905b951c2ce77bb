"""Stage 1 on the built-in synthetic catalogue, sized for two CPU cores.

    python -m catid2_jax.train --config=configs/rqvae.py          CAT-ID2
    python -m catid2_jax.train --config=configs/rqvae.py:tiger    TIGER

Hardware: 2 CPU cores.  Time: not yet measured.
"""

import ml_collections

from catid2_jax.config import default_config, set_loss_preset


def get_config(preset: str = "cat_id2") -> ml_collections.ConfigDict:
    """Stage 1 with the losses of `preset`: "cat_id2" or "tiger"."""
    config = default_config()
    config.stage = "rqvae"
    set_loss_preset(config, preset)
    # The paper's 2048-1024-...-64 is for 768-dimensional embeddings of 386,392 products.
    config.rqvae.hidden_dims = (512, 256, 128, 64)
    config.rqvae_training.batch_size = 1024
    config.rqvae_training.epochs = 100
    return config
