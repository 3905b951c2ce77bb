"""Small T5s with random weights, and how to compare two."""

import dataclasses

import numpy as np

from catid2_jax.checkpoints.tree import Checkpoint, parameter_shapes
from catid2_jax.docids.vocabulary import train_vocabulary
from catid2_jax.models.t5.config import T5Config

UNTIED = T5Config(
    emb_dim=12, num_heads=2, head_dim=4, mlp_dim=20, num_encoder_layers=2, num_decoder_layers=1
)
TIED = dataclasses.replace(UNTIED, mlp_activations=("relu",), logits_via_embedding=True)

WORDS = ("red", "shoe", "cotton", "kettle", "steel", "lamp", "garden", "hose", "tea", "mug")


def write_vocabulary(path):
    """A SentencePiece model of a few dozen pieces."""
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, 5)) for _ in range(200)]
    path.write_bytes(train_vocabulary(texts, 60))
    return path


def random_checkpoint(config, rows=128, step=31, dtype=np.float32):
    generator = np.random.default_rng(7)
    params = {
        name: generator.normal(0.1, 0.5, shape).astype(dtype)
        for name, shape in parameter_shapes(config, rows).items()
    }
    return Checkpoint(params, config, step)


def assert_same(found, expected):
    """Names, types and bits of all parameters, and the steps."""
    assert found.step == expected.step
    assert found.config == expected.config
    assert found.params.keys() == expected.params.keys()
    for name, array in expected.params.items():
        other = np.asarray(found.params[name])
        assert other.dtype == array.dtype, name
        assert other.shape == array.shape, name
        assert other.tobytes() == array.tobytes(), name
