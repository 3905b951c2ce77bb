"""Everything on two CPU cores, with a stage 2 that reads hashed words in the place of T5's tokens.

    python -m catid2_jax.pipeline --config=configs/words.py
    catid2 pipeline --config=words

Words and character n-grams need no language model and learn faster than a T5 that starts from
random parameters: on the synthetic catalogue Recall@10 is near 71 %, where configs/quickstart.py
has 41 %. Where queries have vectors (`embedding`), the words stand beside them.
Hardware: 2 CPU cores.  Time: 3 to 8 minutes.  Expect Recall@10 near 71 % (BM25 37.8 %).
Systems: the first is :cat_id2, or the one named after the colon, such as :tiger or :table3_hccl.
"""

import ml_collections

from catid2_jax.config import default_config


def get_config(system: str = "cat_id2") -> ml_collections.ConfigDict:
    """Both stages of a system, beside BM25."""
    config = default_config()
    config.systems = (system, "bm25")

    # Stage 2. T5's decoder on four tokens made of the words; there is nothing to encode.
    config.t5.emb_dim = 128
    config.t5.num_heads = 4
    config.t5.head_dim = 32
    config.t5.mlp_dim = 256
    config.t5.memory_tokens = 4
    config.t5.num_encoder_layers = 0
    config.t5.num_decoder_layers = 2
    config.t5.dropout_rate = 0.0
    config.seq2seq.word_features = 4096
    config.seq2seq.objective.source_dropout = 0.2
    config.seq2seq_training.batch_size = 512
    config.seq2seq_training.epochs = 6
    config.seq2seq_training.learning_rate = 3e-3
    config.seq2seq_training.warmup_steps = 100
    config.seq2seq_training.schedule = "cosine"
    config.seq2seq_training.checkpoint_every = 200
    return config
