"""temporary"""

from catid2_jax.config import default_config, set_loss_preset, set_two_core_size


def get_config(preset: str = "cat_id2"):
    config = default_config()
    set_loss_preset(config, preset)
    set_two_core_size(config)
    root = "../shared/data/grocery"
    config.data.catalog = f"{root}/catalog.jsonl"
    for split in ("train", "dev", "test"):
        config.data[f"{split}_queries"] = f"{root}/queries.{split}.jsonl"
        config.data[f"{split}_qrels"] = f"{root}/qrels.{split}.txt"
    config.embedding.encoder = "precomputed"
    config.embedding.path = f"{root}/catalog.minilm.npy"
    return config
