"""The silver `offers` set with a decoder on query vectors in T5's place.

    python -m catid2_jax.pipeline --config=benchmarks/configs/offers_vectors.py

Expects the set in ../shared/data/offers. Its labels are silver: made by the encoder of these very
vectors, so compare rows of one table only.
Hardware: 2 CPU cores.  Time: 3 minutes after stage 1.  Expect Recall@10 near 62 % (BM25 43.8 %).
Systems: the first is :cat_id2, or the one named after the colon, such as :tiger or :table3_hccl.
"""

import ml_collections

from catid2_jax.config import default_config


def get_config(system: str = "cat_id2") -> ml_collections.ConfigDict:
    """Both stages of a system, beside BM25."""
    config = default_config()
    config.systems = (system, "bm25")

    data = "../shared/data/offers"
    config.data.catalog = f"{data}/catalog.jsonl"
    config.embedding.encoder = "precomputed"
    config.embedding.path = f"{data}/catalog.minilm.npy"
    for split in ("train", "dev", "test"):
        config.data[f"{split}_queries"] = f"{data}/queries.{split}.jsonl"
        config.data[f"{split}_qrels"] = f"{data}/qrels.{split}.txt"
        config.embedding[f"{split}_query_vectors"] = f"{data}/queries.{split}.minilm.npy"

    # Stage 2. Two decoder layers over four tokens projected from the vector, whose encoder is the
    # encoder; the paper fine-tunes T5 base on text.
    config.t5.memory_tokens = 4
    config.t5.emb_dim = 128
    config.t5.num_heads = 4
    config.t5.head_dim = 32
    config.t5.mlp_dim = 256
    config.t5.num_encoder_layers = 0
    config.t5.num_decoder_layers = 2
    config.t5.dropout_rate = 0.0
    config.seq2seq_training.batch_size = 512
    config.seq2seq_training.epochs = 16
    config.seq2seq_training.learning_rate = 3e-3
    config.seq2seq_training.warmup_steps = 100
    config.seq2seq_training.schedule = "cosine"
    config.seq2seq_training.checkpoint_every = 200
    return config
