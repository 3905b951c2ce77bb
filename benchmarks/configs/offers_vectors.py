"""The silver `offers` set with a decoder on query vectors in T5's place.

    python -m catid2_jax.pipeline --config=configs/offers_vectors.py

Expects the set in ../shared/data/offers. Its labels are silver: made by the encoder of these very
vectors, so compare rows of one table only.
Hardware: 2 CPU cores.  Time and Recall: BENCHMARKS.md.
"""

import ml_collections

from catid2_jax.config import (
    default_config,
    set_data_directory,
    set_two_core_size,
    set_vector_size,
)
from catid2_jax.presets import set_preset


def get_config(preset: str = "cat_id2") -> ml_collections.ConfigDict:
    """Both stages, stage 1 with a preset of `catid2_jax.presets`."""
    config = default_config()
    set_preset(config, preset)
    set_two_core_size(config)
    set_data_directory(config, "../shared/data/offers", "minilm")
    set_vector_size(config)
    config.rqvae_training.epochs = 100  # as configs/offers.py
    return config
