"""A tiny BERT with random weights, in a folder of Hugging Face's form, made without its library."""

import json
import string

import numpy as np
import safetensors.numpy

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SHAPE = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-6,
}


def words_of(texts):
    """Every word, and what spells all others."""
    letters = string.ascii_lowercase + string.digits
    words = sorted({word for text in texts for word in text.lower().split()} - set(letters))
    return [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *words]


def random_weights(rows, seed=0, **changes):
    """Float32 tensors by Hugging Face's names, as the shape says."""
    shape = SHAPE | changes
    width, hidden = shape["hidden_size"], shape["intermediate_size"]
    sizes = {
        "embeddings.word_embeddings.weight": (rows, width),
        "embeddings.position_embeddings.weight": (shape["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (shape["type_vocab_size"], width),
    }
    linear = {f"attention.self.{part}": (width, width) for part in ("query", "key", "value")}
    linear |= {"attention.output.dense": (width, width)}
    linear |= {"intermediate.dense": (hidden, width), "output.dense": (width, hidden)}
    norms = ["embeddings.LayerNorm"]
    for i in range(shape["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for name, size in linear.items():
            sizes |= {f"{layer}.{name}.weight": size, f"{layer}.{name}.bias": size[:1]}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    sizes |= {f"{norm}.{part}": (width,) for norm in norms for part in ("weight", "bias")}
    rng = np.random.default_rng(seed)

    def draw(name, size):
        """Words outweigh their positions, and every norm scales by 1 or so."""
        spread = {"word": 1.0, "posi": 0.5}.get(name.partition(".")[2][:4], 0.3)
        return rng.normal(name.endswith("Norm.weight"), spread, size).astype(np.float32)

    return {name: draw(name, size) for name, size in sizes.items()}


def write_config(folder, rows, **changes):
    values = {"model_type": "bert", "hidden_act": "gelu", "vocab_size": rows, **SHAPE, **changes}
    (folder / "config.json").write_text(json.dumps(values))


def write_bert(folder, texts, prefix="", **changes):
    """A folder with `config.json`, `vocab.txt` and `model.safetensors`; returns the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    words = words_of(texts)
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    write_config(folder, len(words), **changes)
    weights = random_weights(len(words), **changes)
    named = {f"{prefix}{name}": leaf for name, leaf in weights.items()}
    safetensors.numpy.save_file(named, folder / "model.safetensors")
    return weights
