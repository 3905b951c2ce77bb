"""Stage 2 on the built-in synthetic catalogue, sized for two CPU cores.

    python -m catid2_jax.train --config=configs/seq2seq.py

Its stage 1 is that of configs/rqvae.py; with `--workdir=runs/rqvae` it goes on from there.
Hardware: 2 CPU cores.  Time: not yet measured.
"""

import ml_collections

from catid2_jax.config import default_config, set_loss_preset


def get_config(preset: str = "cat_id2") -> ml_collections.ConfigDict:
    """Both stages, with stage 1's losses of `preset`: "cat_id2" or "tiger"."""
    config = default_config()
    config.stage = "seq2seq"
    set_loss_preset(config, preset)
    config.rqvae.hidden_dims = (512, 256, 128, 64)
    config.rqvae_training.batch_size = 1024
    config.rqvae_training.epochs = 100

    # A network of T5 1.1's shape that learns language from the catalogue and the queries alone.
    config.t5.emb_dim = 128
    config.t5.num_heads = 4
    config.t5.head_dim = 32
    config.t5.mlp_dim = 256
    config.t5.num_encoder_layers = 2
    config.t5.num_decoder_layers = 2
    config.t5.dropout_rate = 0.1
    config.seq2seq.source_tokens = 24
    config.seq2seq.source_dropout = 0.3
    config.seq2seq_training.batch_size = 256
    config.seq2seq_training.epochs = 30
    config.seq2seq_training.learning_rate = 2e-3
    config.seq2seq_training.warmup_steps = 300
    config.seq2seq_training.decay = True
    return config
