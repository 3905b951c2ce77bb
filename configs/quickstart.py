"""Everything, from the built-in synthetic catalogue to a Recall table, on two CPU cores.

    python -m catid2_jax.pipeline --config=configs/quickstart.py
    catid2 pipeline --config=quickstart

Hardware: 2 CPU cores.  Time: 4 to 10 minutes.  Expect Recall@10 near 41 % (BM25 37.8 %).
Systems: the first is :cat_id2, or the one named after the colon, such as :tiger or :table3_hccl.
"""

import ml_collections

from catid2_jax.config import default_config


def get_config(system: str = "cat_id2") -> ml_collections.ConfigDict:
    """Both stages of a system, beside BM25."""
    config = default_config()
    config.systems = (system, "bm25")

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
