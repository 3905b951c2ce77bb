"""Stage 2 on the built-in synthetic catalogue, sized for two CPU cores.

    python -m catid2_jax.train --config=configs/seq2seq.py --workdir=runs/rqvae

goes on from the stage 1 of configs/rqvae.py; without `--workdir` it runs its own first.
Hardware: 2 CPU cores.  Time: 3 to 5 minutes after stage 1.
"""

import ml_collections

from catid2_jax.config import default_config


def get_config(system: str = "cat_id2") -> ml_collections.ConfigDict:
    """Both stages of a system."""
    config = default_config()
    config.systems = (system,)
    config.stage = "seq2seq"

    # Stage 2. A network of T5 1.1's shape that learns language from the catalogue and the queries
    # alone; the paper fine-tunes T5 base.
    config.t5.emb_dim = 128
    config.t5.num_heads = 4
    config.t5.head_dim = 32
    config.t5.mlp_dim = 256
    config.t5.num_encoder_layers = 2
    config.t5.num_decoder_layers = 2
    config.t5.dropout_rate = 0.1
    config.seq2seq.source_tokens = 16
    config.seq2seq.objective.source_dropout = 0.3
    config.seq2seq_training.batch_size = 128
    config.seq2seq_training.epochs = 3
    config.seq2seq_training.learning_rate = 2e-3
    config.seq2seq_training.warmup_steps = 300
    config.seq2seq_training.schedule = "cosine"
    config.seq2seq_training.checkpoint_every = 200
    return config
