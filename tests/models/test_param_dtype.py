"""Parameters in fewer bits, beside NumPy's rounding of the same parameters."""

import flax
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from catid2_jax.decoding.trie import build_trie
from catid2_jax.models.param_dtype import dequantize, quantize
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer
from catid2_jax.seq2seq.decoder import T5Decoder
from catid2_jax.seq2seq.search import retrieve

FIRST, K, L, N, V = 17, 6, 3, 60, 40
MODEL = Transformer(
    T5Config(
        emb_dim=16,
        num_heads=2,
        head_dim=8,
        mlp_dim=24,
        num_encoder_layers=1,
        num_decoder_layers=1,
    ),
    V,
)
TOKENS = jnp.asarray(np.random.default_rng(3).integers(1, FIRST, (2, 7)), jnp.int32)


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), TOKENS, TOKENS > 0, TOKENS)["params"]
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, 0.4, leaf.shape), jnp.float32), shapes
    )


def rounded(params, param_dtype):
    """The parameters rounded to `param_dtype`, in float32, by NumPy."""
    result = {}
    for path, leaf in flax.traverse_util.flatten_dict(params).items():
        leaf = np.asarray(leaf)
        if path[-1] in ("kernel", "embedding"):
            if param_dtype == "bfloat16":
                leaf = leaf.astype(ml_dtypes.bfloat16).astype(np.float32)
            else:
                # A kernel's columns are its outputs; the embedding's rows are the tokens.
                columns = leaf if path[-1] == "kernel" else leaf.T
                scaled = [127 * column / abs(column).max() for column in columns.T]
                steps = [abs(column).max() / 127 for column in columns.T]
                columns = np.stack([np.rint(c) * s for c, s in zip(scaled, steps, strict=True)], 1)
                leaf = columns if path[-1] == "kernel" else columns.T
        result[path] = leaf
    return flax.traverse_util.unflatten_dict(result)


@pytest.mark.parametrize("param_dtype", ["bfloat16", "int8"])
def test_matrices_are_rounded_and_nothing_else(params, param_dtype):
    found = flax.traverse_util.flatten_dict(dequantize(quantize(params, param_dtype)))
    expected = flax.traverse_util.flatten_dict(rounded(params, param_dtype))
    original = flax.traverse_util.flatten_dict(params)
    assert found.keys() == expected.keys() == original.keys()
    changed = 0
    for path, leaf in found.items():
        np.testing.assert_allclose(
            np.asarray(leaf, np.float32), expected[path], rtol=1e-6, atol=1e-7
        )
        changed += bool((expected[path] != original[path]).any())
    # Two attentions and a feed-forward layer in the decoder, one of each in the encoder, the
    # embedding and the logits: 3 x 4 + 2 x 3 + 2.
    assert changed == 20


def test_errors_are_at_most_half_a_step(params):
    for original, found in zip(
        jax.tree.leaves(params), jax.tree.leaves(dequantize(quantize(params, "int8"))), strict=True
    ):
        error = np.abs(np.asarray(found, np.float64) - np.asarray(original, np.float64))
        assert error.max() <= np.abs(original).max() / 254 * (1 + 1e-5)
    for original, found in zip(
        jax.tree.leaves(params), jax.tree.leaves(quantize(params, "bfloat16")), strict=True
    ):
        # Eight bits of precision: half a unit of the last is 2^-8 of the number at most.
        np.testing.assert_allclose(np.asarray(found, np.float32), original, rtol=2**-8)


def test_a_channel_has_its_own_scale():
    # One column and one row a thousand times larger than the others.
    kernel = np.random.default_rng(1).normal(size=(8, 5)).astype(np.float32)
    kernel[:, 2] *= 1000
    embedding = np.random.default_rng(2).normal(size=(8, 5)).astype(np.float32)
    embedding[3] *= 1000
    tree = {"a": {"kernel": jnp.asarray(kernel)}, "b": {"embedding": jnp.asarray(embedding)}}
    stored = quantize(tree, "int8")
    assert stored["a"]["kernel"].values.dtype == jnp.int8
    assert stored["a"]["kernel"].scales.shape == (1, 5)
    assert stored["b"]["embedding"].scales.shape == (8, 1)
    found = dequantize(stored)
    np.testing.assert_allclose(found["a"]["kernel"], kernel, atol=1e-2 * 1000, rtol=0)
    for column in (0, 1, 3, 4):
        np.testing.assert_allclose(found["a"]["kernel"][:, column], kernel[:, column], atol=1e-2)
    for row in (0, 1, 2, 4, 5, 6, 7):
        np.testing.assert_allclose(found["b"]["embedding"][row], embedding[row], atol=1e-2)


def test_zeros_stay_zeros():
    tree = {"kernel": jnp.array([[0.0, 1.0], [0.0, -2.0]])}
    found = dequantize(quantize(tree, "int8"))["kernel"]
    assert found[:, 0].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(found[:, 1], [1.0, -2.0], atol=1e-2)


def size(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def test_sizes(params):
    matrices = sum(
        leaf.nbytes
        for path, leaf in flax.traverse_util.flatten_dict(params).items()
        if path[-1] in ("kernel", "embedding")
    )
    rest = size(params) - matrices
    assert quantize(params, "float32") is params
    assert size(quantize(params, "bfloat16")) == matrices // 2 + rest
    channels = sum(
        leaf.shape[1] if path[-1] == "kernel" else leaf.shape[0]
        for path, leaf in flax.traverse_util.flatten_dict(params).items()
        if path[-1] in ("kernel", "embedding")
    )
    assert size(quantize(params, "int8")) == matrices // 4 + 4 * channels + rest


@pytest.fixture(scope="module")
def run():
    every = np.stack(np.meshgrid(*[np.arange(K)] * L), axis=-1).reshape(-1, L)
    trie = build_trie(np.random.default_rng(4).permutation(every)[:N], K)
    decoder = T5Decoder(MODEL.config, V, FIRST, L, K)
    return jax.jit(lambda params: retrieve(decoder, params, TOKENS, trie, N, N))


@pytest.mark.parametrize("param_dtype", ["bfloat16", "int8"])
def test_retrieval_is_that_of_the_rounded_parameters(params, run, param_dtype):
    found = run(quantize(params, param_dtype))
    expected = run(jax.tree.map(jnp.asarray, rounded(params, param_dtype)))
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    exact = run(params)
    by_document = [
        np.asarray(result.scores)[np.arange(2)[:, None], np.argsort(result.documents, axis=1)]
        for result in (found, exact)
    ]
    error = np.abs(by_document[0] - by_document[1]).max()
    # Small beside the spread of the scores, and not nothing.
    assert 1e-4 < error < 0.1 * np.std(by_document[1])
