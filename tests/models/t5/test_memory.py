"""T5 on vectors: the projection, and the rest of the network behind it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.memory import MemoryTokens
from catid2_jax.models.t5.network import Transformer, empty_cache
from tests.reference import t5 as reference

V, D, S = 29, 7, 3
CONFIG = T5Config(
    emb_dim=12,
    num_heads=3,
    head_dim=8,
    mlp_dim=20,
    num_encoder_layers=0,
    num_decoder_layers=2,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=10,
    memory_tokens=S,
)
RNG = np.random.default_rng(3)
VECTORS = jnp.asarray(RNG.normal(size=(2, D)), jnp.float32)
TARGET = jnp.asarray(RNG.integers(0, V, (2, 4)), jnp.int32)


def random_params(model):
    mask = model.source_mask(VECTORS)
    shapes = jax.eval_shape(model.init, jax.random.key(0), VECTORS, mask, TARGET)["params"]
    rng = np.random.default_rng(7)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.3, s.shape), jnp.float32), shapes)


def test_a_vector_becomes_tokens_by_its_direction():
    module = MemoryTokens(CONFIG)
    params = module.init(jax.random.key(0), VECTORS)["params"]
    found = module.apply({"params": params}, VECTORS)
    x = np.asarray(VECTORS, np.float64)
    x = x / np.sqrt((x**2).sum(axis=1, keepdims=True) / D)
    kernel = np.asarray(params["projection"]["kernel"], np.float64)
    assert kernel.shape == (D, S * 12)
    expected = [[row @ kernel[:, 12 * s : 12 * s + 12] for s in range(S)] for row in x]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(module.apply({"params": params}, 1e-3 * VECTORS), found, rtol=1e-4)
    # A query without a known word may be zero.
    np.testing.assert_array_equal(
        module.apply({"params": params}, 0 * VECTORS), np.zeros((2, S, 12))
    )


def test_tokens_start_with_the_variance_of_embedded_text():
    config = dataclasses.replace(CONFIG, emb_dim=64, memory_tokens=8)
    module, vectors = MemoryTokens(config), jnp.asarray(RNG.normal(size=(50, 40)), jnp.float32)
    tokens = module.apply(module.init(jax.random.key(0), vectors), vectors)
    assert tokens.shape == (50, 8, 64)
    np.testing.assert_allclose(jnp.std(tokens), 1.0, rtol=0.05)


@pytest.mark.parametrize("layers", [0, 2])
def test_logits_are_those_of_the_network_written_out(layers):
    model = Transformer(dataclasses.replace(CONFIG, num_encoder_layers=layers), V)
    params, mask = random_params(model), model.source_mask(VECTORS)
    assert mask.shape == (2, S)
    assert mask.all()
    found = jax.jit(model.apply)({"params": params}, VECTORS, mask, TARGET)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for row in range(2):
        source, target = np.asarray(VECTORS[row], np.float64), np.asarray(TARGET[row])
        expected = reference.logits(exact, source, target, 3, 8, 10)
        np.testing.assert_allclose(found[row], expected, atol=3e-5)


def test_decode_steps_equal_teacher_forcing():
    model = Transformer(CONFIG, V)
    params, mask = random_params(model), model.source_mask(VECTORS)
    variables = {"params": params}
    apply = jax.jit(model.apply, static_argnames="method")
    expected = apply(variables, VECTORS, mask, TARGET)
    encoded = apply(variables, VECTORS, mask, method="encode")
    assert encoded.shape == (2, S, 12)
    cross = apply(variables, encoded, method="start_decoding")
    cache = empty_cache(CONFIG, 2)
    for t in range(4):
        decoded, cache = apply(
            variables, TARGET[:, t : t + 1], cross, mask, cache, method="decode_step"
        )
        found = apply(variables, decoded, method="logits")
        np.testing.assert_allclose(found[:, 0], expected[:, t], atol=1e-5)


def test_text_is_masked_where_it_is_padding():
    model = Transformer(dataclasses.replace(CONFIG, memory_tokens=0), V)
    tokens = jnp.array([[5, 1, 0], [7, 8, 1]], jnp.int32)
    np.testing.assert_array_equal(model.source_mask(tokens), [[1, 1, 0], [1, 1, 1]])


def test_a_number_of_tokens_that_is_none():
    with pytest.raises(InputError, match="memory_tokens: found -1, expected at least 0"):
        T5Config(memory_tokens=-1)
