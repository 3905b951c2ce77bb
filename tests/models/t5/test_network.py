import dataclasses
import functools
import re

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.layers import FeedForward, relative_position_bucket
from catid2_jax.models.t5.network import Transformer, empty_cache
from tests.reference import t5 as reference

V = 29
# Few buckets, so that short sequences reach the wide ones and the last.
GATED = T5Config(
    emb_dim=12,
    num_heads=3,
    head_dim=8,
    mlp_dim=20,
    num_encoder_layers=2,
    num_decoder_layers=2,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=10,
)
SMALL = dataclasses.replace(GATED, num_encoder_layers=1, num_decoder_layers=1)
CONFIGS = {
    "t5 1.1": GATED,
    "t5 1.0": dataclasses.replace(GATED, mlp_activations=("relu",), logits_via_embedding=True),
}


@functools.cache
def random_params(config):
    """Parameters drawn anew, so that no scale is one and no bias small."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    shapes = jax.eval_shape(
        Transformer(config, V).init, jax.random.key(0), tokens, tokens > 0, tokens
    )["params"]
    rng = np.random.default_rng(7)

    def draw(path, leaf):
        fan_in = leaf.shape[0] if path[-1].key == "kernel" else 1
        return jnp.asarray(rng.normal(0, fan_in**-0.5, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.partial(jax.jit, static_argnames=("config", "method"))
def apply_jitted(config, params, *args, method):
    return Transformer(config, V).apply({"params": params}, *args, method=method)


def apply(config, *args, method="__call__"):
    return apply_jitted(config, random_params(config), *args, method=method)


@functools.cache
def example(seed=3):
    """Two sources, the second of 6 tokens and 9 of padding, and two targets."""
    rng = np.random.default_rng(seed)
    source = jnp.asarray(rng.integers(1, V, (2, 15)), jnp.int32)
    mask = jnp.arange(15)[None, :] < jnp.array([[15], [6]])
    target = jnp.asarray(rng.integers(0, V, (2, 13)), jnp.int32)
    return source, mask, target


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_logits_are_those_of_the_unpadded_example_written_out(config):
    source, mask, target = example()
    found = apply(config, source, mask, target)
    assert found.dtype == jnp.float32
    assert found.shape == (2, 13, V)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), random_params(config))
    for row, length in enumerate([15, 6]):
        expected = reference.logits(
            params, np.asarray(source[row, :length]), np.asarray(target[row]), 3, 8, 10
        )
        np.testing.assert_allclose(found[row], expected, atol=3e-5)


def test_padding_is_not_seen():
    source, mask, target = example()
    other = jnp.where(mask, source, 28 - source)
    np.testing.assert_array_equal(
        apply(GATED, source, mask, target), apply(GATED, other, mask, target)
    )


@pytest.mark.parametrize(
    ("rate", "remat"),
    [
        pytest.param(0.0, False, id="kept-whole"),
        pytest.param(0.3, True, id="remat-dropout", marks=pytest.mark.slow),
        pytest.param(0.0, True, id="remat-whole", marks=pytest.mark.slow),
        pytest.param(0.3, False, id="kept-dropout", marks=pytest.mark.slow),
    ],
)
def test_packed_sources_have_the_logits_and_the_gradient_of_padded_ones(rate, remat):
    config = dataclasses.replace(GATED, dropout_rate=rate, remat=remat)
    source, mask, target = example()
    mask = mask.at[:, 3].set(False)  # holes, too, are no tokens
    direction = jnp.asarray(np.random.default_rng(5).normal(size=(2, 13, V)), jnp.float32)

    @functools.partial(jax.jit, static_argnums=1)
    def derivative(params, packed_tokens):
        def along(params):
            logits = Transformer(config, V).apply(
                {"params": params},
                source,
                mask,
                target,
                deterministic=False,
                packed_tokens=packed_tokens,
                rngs={"dropout": jax.random.key(2)},
            )
            return jnp.sum(logits * direction), logits

        return jax.grad(along, has_aux=True)(params)

    params = random_params(GATED)
    gradient, logits = derivative(params, 0)
    for packed_tokens in (19, 23):  # of 30: as many as there are tokens, and more
        found_gradient, found_logits = derivative(params, packed_tokens)
        np.testing.assert_allclose(found_logits, logits, atol=3e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max()),
            found_gradient,
            gradient,
        )


ATTENTION = {"query": (12, 24), "key": (12, 24), "value": (12, 24), "out": (24, 12)}
GATED_MLP = {"wi_0": (12, 20), "wi_1": (12, 20), "wo": (20, 12)}


def expected_tree(mlp):
    tree = {
        "token_embedder/embedding": (V, 12),
        "encoder/relpos_bias/rel_embedding": (3, 8),
        "encoder/encoder_norm/scale": (12,),
        "decoder/relpos_bias/rel_embedding": (3, 8),
        "decoder/decoder_norm/scale": (12,),
    }
    for layer in ("layers_0", "layers_1"):
        for name in ("pre_attention_layer_norm", "pre_mlp_layer_norm"):
            tree[f"encoder/{layer}/{name}/scale"] = (12,)
        for name in (
            "pre_self_attention_layer_norm",
            "pre_cross_attention_layer_norm",
            "pre_mlp_layer_norm",
        ):
            tree[f"decoder/{layer}/{name}/scale"] = (12,)
        for name, shape in ATTENTION.items():
            tree[f"encoder/{layer}/attention/{name}/kernel"] = shape
            tree[f"decoder/{layer}/self_attention/{name}/kernel"] = shape
            tree[f"decoder/{layer}/encoder_decoder_attention/{name}/kernel"] = shape
        for name, shape in mlp.items():
            tree[f"encoder/{layer}/mlp/{name}/kernel"] = shape
            tree[f"decoder/{layer}/mlp/{name}/kernel"] = shape
    return tree


def test_parameter_tree_is_that_of_t5x():
    found = {
        name: {
            path: leaf.shape
            for path, leaf in flax.traverse_util.flatten_dict(
                random_params(config), sep="/"
            ).items()
        }
        for name, config in CONFIGS.items()
    }
    gated = expected_tree(GATED_MLP) | {"decoder/logits_dense/kernel": (12, V)}
    assert found["t5 1.1"] == gated
    assert found["t5 1.0"] == expected_tree({"wi": (12, 20), "wo": (20, 12)})


def test_initial_spread_is_that_of_t5x():
    # Kernels: 1 / sqrt(fan in), the query's divided by sqrt(head width) besides; the embedding: 1;
    # the position bias: uniform with variance 2 / (heads + buckets).
    config = dataclasses.replace(
        GATED,
        emb_dim=64,
        mlp_dim=256,
        num_encoder_layers=0,
        num_decoder_layers=1,
        relative_attention_num_buckets=64,
    )
    tokens = jnp.zeros((1, 1), jnp.int32)
    init = jax.jit(Transformer(config, 400).init)
    params = init(jax.random.key(0), tokens, tokens == 0, tokens)["params"]
    layer = params["decoder"]["layers_0"]
    found = {
        "query": layer["self_attention"]["query"]["kernel"],
        "key": layer["self_attention"]["key"]["kernel"],
        "out": layer["self_attention"]["out"]["kernel"],
        "wi_0": layer["mlp"]["wi_0"]["kernel"],
        "wo": layer["mlp"]["wo"]["kernel"],
        "logits_dense": params["decoder"]["logits_dense"]["kernel"],
        "embedding": params["token_embedder"]["embedding"],
        "rel_embedding": params["decoder"]["relpos_bias"]["rel_embedding"],
    }
    expected = {
        "query": (64 * 8) ** -0.5,
        "key": 64**-0.5,
        "out": 24**-0.5,
        "wi_0": 64**-0.5,
        "wo": 256**-0.5,
        "logits_dense": 64**-0.5,
        "embedding": 1.0,
        "rel_embedding": (2 / (3 + 64)) ** 0.5,
    }
    for name, kernel in found.items():
        np.testing.assert_allclose(jnp.std(kernel), expected[name], rtol=0.1, err_msg=name)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (8, 10), (64, 256)])
def test_relative_position_bucket(bidirectional, buckets, max_distance):
    relative = np.arange(-300, 301)
    found = relative_position_bucket(relative, bidirectional, buckets, max_distance)
    expected = [reference.bucket(int(r), bidirectional, buckets, max_distance) for r in relative]
    np.testing.assert_array_equal(found, expected)


def test_decode_steps_equal_teacher_forcing():
    source, mask, _ = example()
    beams = jnp.asarray(np.random.default_rng(5).integers(0, V, (2, 3, 13)), jnp.int32)
    expected = jnp.stack([apply(GATED, source, mask, beams[:, m]) for m in range(3)], axis=1)
    encoded = apply(GATED, source, mask, method="encode")
    cross = apply(GATED, encoded, method="start_decoding")
    cache = jax.tree.map(lambda leaf: jnp.repeat(leaf, 3, axis=1), empty_cache(GATED, 2))
    for t in range(3):
        decoded, cache = apply(GATED, beams[:, :, t], cross, mask, cache, method="decode_step")
        found = apply(GATED, decoded, method="logits")
        np.testing.assert_allclose(found, expected[:, :, t], atol=1e-5)
    assert {leaf.shape for leaf in jax.tree.leaves(cache)} == {(2, 3, 3, 3, 8)}


def test_decode_step_does_not_replicate_the_source_over_the_beams():
    source, mask, _ = example()
    config = GATED
    encoded = apply(config, source, mask, method="encode")
    cross = apply(config, encoded, method="start_decoding")
    cache = jax.tree.map(lambda leaf: jnp.repeat(leaf, 7, axis=1), empty_cache(config, 2))
    arguments = (jnp.ones((2, 7), jnp.int32), cross, mask, cache)
    text = apply_jitted.lower(
        config, random_params(config), *arguments, method="decode_step"
    ).as_text()
    shapes = {
        tuple(map(int, shape.split("x"))) for shape in re.findall(r"tensor<([\dx]+)x[a-z]", text)
    }
    assert (2, 15, 3, 8) in shapes  # the keys of the source, head by head
    assert (2, 7, 1, 3, 8) in shapes  # those of the beams' own tokens
    assert not [shape for shape in shapes if {7, 15, 8} <= set(shape)]


def test_later_decoder_tokens_do_not_reach_earlier_logits():
    source, mask, target = example()
    changed = target.at[:, 8].set((target[:, 8] + 1) % V)
    before, after = apply(GATED, source, mask, target), apply(GATED, source, mask, changed)
    np.testing.assert_array_equal(before[:, :8], after[:, :8])
    assert np.all(np.abs(before[:, 8:] - after[:, 8:]).max(-1) > 1e-3)


def test_feed_forward_dropout_has_one_mask_for_all_positions():
    config = dataclasses.replace(GATED, emb_dim=20, mlp_activations=("linear",), dropout_rate=0.5)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 9, 20)), jnp.float32)
    params = {"wi": {"kernel": jnp.eye(20)}, "wo": {"kernel": jnp.eye(20)}}
    dropped = FeedForward(config).apply(
        {"params": params}, x, False, rngs={"dropout": jax.random.key(2)}
    )
    ratio = np.asarray(dropped / x)  # kept units are scaled by 1 / (1 - 0.5)
    kept = ratio[:, :1] > 1
    np.testing.assert_allclose(ratio, np.where(kept, 2.0, 0.0) * np.ones_like(ratio), rtol=1e-6)
    assert 20 < kept.sum() < 60


def test_dropout_acts_only_when_asked():
    source, mask, target = example()
    config, params = dataclasses.replace(SMALL, dropout_rate=0.3), random_params(SMALL)

    @functools.partial(jax.jit, static_argnums=1)
    def logits(key, deterministic):
        rngs = {"dropout": jax.random.key(key)}
        return Transformer(config, V).apply(
            {"params": params}, source, mask, target, deterministic, rngs=rngs
        )

    np.testing.assert_allclose(logits(0, True), apply(SMALL, source, mask, target), atol=1e-5)
    np.testing.assert_array_equal(logits(0, False), logits(0, False))
    assert np.abs(logits(0, False) - logits(1, False)).max() > 0.1


def test_bfloat16_activations_give_float32_logits_near_those_of_float32():
    source, mask, target = example()
    config = dataclasses.replace(SMALL, dtype="bfloat16")
    encode = functools.partial(apply, config, method="encode")
    found = apply(config, source, mask, target)
    assert jax.eval_shape(encode, source, mask).dtype == jnp.bfloat16
    assert found.dtype == jnp.float32
    # 8 bits of mantissa: about 0.4 % of the spread per operation.
    expected = apply(SMALL, source, mask, target)
    assert np.abs(found - expected).mean() < 0.05 * np.std(expected)


def test_unknown_activation_is_refused():
    with pytest.raises(InputError, match=r"found 'swiglu', expected one of gelu, linear, relu, si"):
        T5Config(mlp_activations=("swiglu",))
