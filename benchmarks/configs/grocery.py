"""The silver `grocery` set: 5,956 supermarket products, queries from ESCI and others.

    python -m catid2_jax.pipeline --config=configs/grocery.py

and beside TIGER with --config.evaluate.baselines="('bm25','tiger')".

Expects the set in ../shared/data/grocery. Its labels are silver: made by the encoder whose vectors
(`catalog.minilm.npy`) the IDs are learnt from, so compare rows of one table only.
Hardware: 2 CPU cores.  Time and Recall: BENCHMARKS.md.
"""

import ml_collections

from catid2_jax.config import default_config, set_data_directory, set_two_core_size
from catid2_jax.presets import set_preset


def get_config(preset: str = "cat_id2") -> ml_collections.ConfigDict:
    """Both stages, stage 1 with a preset of `catid2_jax.presets`."""
    config = default_config()
    set_preset(config, preset)
    set_two_core_size(config)
    set_data_directory(config, "../shared/data/grocery", "minilm")
    # Sized for minutes, the same for every row of a table; the paper has 300 epochs in stage 1.
    config.rqvae_training.epochs = 100
    config.seq2seq_training.epochs = 12
    return config
