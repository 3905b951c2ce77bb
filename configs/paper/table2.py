r"""The paper's full-size settings (section 4.1), for the CAT-ID2 and TIGER rows of Table 2.

    python -m catid2_jax.pipeline --config=configs/paper/table2.py:cat_id2_512 \
      --config.data.catalog=... --config.data.train_queries=... (and the other data fields) \
      --config.embedding.path=vectors.npy --config.seq2seq.pretrained=t5_1_1_base

Presets: cat_id2_256, cat_id2_512, tiger_256, tiger_512. The vectors are those of a T5 encoder,
masked mean over tokens, 768 wide, one row per line of the catalogue; `seq2seq.vocabulary` is T5's
SentencePiece model. The paper fine-tunes T5-base: `seq2seq.pretrained` is a checkpoint of the shape
below, in T5X's or Hugging Face's form; without it stage 2 starts from random weights.
Hardware: eight A100 80GB in the paper.  Time and Recall: not yet measured here.
"""

import ml_collections

from catid2_jax.ablations import LITERAL
from catid2_jax.config import default_config


def get_config(preset: str = "cat_id2_256") -> ml_collections.ConfigDict:
    """One row beside BM25; `preset` is <system>_<codebook size>."""
    system, _, codebook_size = preset.rpartition("_")
    config = default_config()
    config.systems = (system, "bm25")
    config.update_from_flattened_dict(LITERAL)
    config.rqvae.codebook_size = int(codebook_size)
    config.embedding.encoder = "precomputed"

    config.seq2seq.vocabulary = "t5.spiece.model"
    config.seq2seq.extra_ids = 100
    config.seq2seq.title_weight = 0.0  # query -> ID pairs alone
    # T5 1.1 base.
    config.t5.emb_dim = 768
    config.t5.num_heads = 12
    config.t5.mlp_dim = 2048
    config.t5.num_encoder_layers = 12
    config.t5.num_decoder_layers = 12
    config.t5.dropout_rate = 0.1
    return config
