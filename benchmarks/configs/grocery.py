"""The silver `grocery` set: 5,956 supermarket products, queries from ESCI and others.

    python -m catid2_jax.pipeline --config=benchmarks/configs/grocery.py

and beside TIGER with --config.systems="('cat_id2','tiger','bm25')".

Expects the set in ../shared/data/grocery. Its labels are silver: made by the encoder whose vectors
(`catalog.minilm.npy`) the IDs are learnt from, so compare rows of one table only.
Hardware: 2 CPU cores.  Time: about 10 minutes.  Expect Recall@10 near 45 % (BM25 44.9 %).
Systems: the first is :cat_id2, or the one named after the colon, such as :tiger or :table3_hccl.
"""

import ml_collections

from catid2_jax.config import default_config


def get_config(system: str = "cat_id2") -> ml_collections.ConfigDict:
    """Both stages of a system, beside BM25."""
    config = default_config()
    config.systems = (system, "bm25")

    data = "../shared/data/grocery"
    config.data.catalog = f"{data}/catalog.jsonl"
    config.embedding.encoder = "precomputed"
    config.embedding.path = f"{data}/catalog.minilm.npy"
    for split in ("train", "dev", "test"):
        config.data[f"{split}_queries"] = f"{data}/queries.{split}.jsonl"
        config.data[f"{split}_qrels"] = f"{data}/qrels.{split}.txt"
        config.embedding[f"{split}_query_vectors"] = f"{data}/queries.{split}.minilm.npy"

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
    config.seq2seq_training.epochs = 12
    config.seq2seq_training.learning_rate = 2e-3
    config.seq2seq_training.warmup_steps = 300
    config.seq2seq_training.schedule = "cosine"
    config.seq2seq_training.checkpoint_every = 200
    return config
