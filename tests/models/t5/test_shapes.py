import dataclasses

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.errors import InputError
from catid2_jax.models.t5.network import Transformer
from catid2_jax.models.t5.shapes import SHAPES, named_shape

# As the published checkpoints have them.
PARAMETERS = {
    "t5_small": 60_506_624,
    "t5_base": 222_903_552,
    "t5_large": 737_668_096,
    "t5_1_1_small": 76_961_152,
    "t5_1_1_base": 247_577_856,
    "t5_1_1_large": 783_150_080,
    "mt5_small": 300_176_768,
    "mt5_base": 582_401_280,
    "mt5_large": 1_229_581_312,
    # From their model cards, in millions with two decimals.
    "t5_efficient_tiny": 15_580_000,
    "t5_efficient_mini": 31_230_000,
}


def shapes_of(shape):
    tokens = jnp.zeros((1, 1), jnp.int32)
    init = Transformer(shape.config, shape.rows).init
    params = jax.eval_shape(init, jax.random.key(0), tokens, tokens == 0, tokens)["params"]
    return {k: v.shape for k, v in flax.traverse_util.flatten_dict(params, sep="/").items()}


def count_parameters(shape):
    """Of one layer in each stack, then of what a second one adds, as often as there are more."""
    sizes = []
    for layers in ((1, 1), (2, 1), (1, 2)):
        config = dataclasses.replace(
            shape.config, num_encoder_layers=layers[0], num_decoder_layers=layers[1]
        )
        small = dataclasses.replace(shape, config=config)
        sizes.append(sum(int(np.prod(leaf)) for leaf in shapes_of(small).values()))
    one, encoder, decoder = sizes
    return (
        one
        + (shape.config.num_encoder_layers - 1) * (encoder - one)
        + (shape.config.num_decoder_layers - 1) * (decoder - one)
    )


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_published(name):
    found = count_parameters(named_shape(name))
    tolerance = 1e-3 if "efficient" in name else 0
    assert found == pytest.approx(PARAMETERS[name], rel=tolerance, abs=0)


@pytest.mark.parametrize("family", ["t5", "t5_1_1", "mt5"])
def test_tiny_is_that_of_t5x(family):
    # t5x/examples/t5/*/tiny.gin: width 8, 4 heads of 3, 16 hidden units, 2 + 2 layers.
    shapes, rows = shapes_of(named_shape(f"{family}_tiny")), 250_112 if family == "mt5" else 32_128
    assert shapes["token_embedder/embedding"] == (rows, 8)
    assert shapes["decoder/layers_1/self_attention/out/kernel"] == (12, 8)
    assert shapes["encoder/relpos_bias/rel_embedding"] == (4, 32)
    if family == "t5":
        assert shapes["encoder/layers_1/mlp/wi/kernel"] == (8, 16)
        assert "decoder/logits_dense/kernel" not in shapes
    else:
        assert shapes["encoder/layers_1/mlp/wi_1/kernel"] == (8, 16)
        assert shapes["decoder/logits_dense/kernel"] == (8, rows)
    assert not any("layers_2" in name for name in shapes)


def test_activations_are_those_of_the_papers():
    for name, shape in SHAPES.items():
        gated = name.startswith(("t5_1_1", "mt5"))
        assert shape.config.mlp_activations == (("gelu", "linear") if gated else ("relu",))
        assert shape.config.logits_via_embedding == (not gated)


def test_unknown_names_are_refused():
    with pytest.raises(
        InputError, match=r"name: found 't5_huge', expected one of t5_tiny, .*mt5_large"
    ):
        named_shape("t5_huge")
