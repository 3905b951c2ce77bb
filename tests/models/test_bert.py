import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.checkpoints.bert import hugging_face_name, parameter_shapes
from catid2_jax.checkpoints.tree import unflatten
from catid2_jax.errors import InputError
from catid2_jax.models.bert import Bert, BertConfig
from catid2_jax.models.t5.packing import make_packing, unpack
from tests.checkpoints.bert_folder import SHAPE, random_weights
from tests.reference import bert as reference

ROWS = 30
CONFIG = BertConfig(vocab_size=ROWS, **SHAPE)
SMALL = dataclasses.replace(CONFIG, num_hidden_layers=1)  # where what is compiled is large
LENGTHS = (9, 4, 1)


@pytest.fixture(scope="module")
def setting():
    """Weights by Hugging Face's names, ours, and three texts of 9, 4 and 1 tokens, padded."""
    weights = random_weights(ROWS)
    params = {}
    for name in parameter_shapes(CONFIG):
        leaf = weights[hugging_face_name(name)]
        params[name] = jnp.asarray(leaf.T if name.endswith("kernel") else leaf)
    mask = np.arange(9)[None] < np.array(LENGTHS)[:, None]
    tokens = np.where(mask, np.random.default_rng(1).integers(1, ROWS, mask.shape), 0)
    return weights, {"params": unflatten(params)}, jnp.asarray(tokens), jnp.asarray(mask)


@functools.partial(jax.jit, static_argnames=("config", "dtype", "seed"))
def states(params, tokens, mask, config=CONFIG, dtype="float32", seed=None):
    """With dropout if there is a seed."""
    rngs = {} if seed is None else {"dropout": jax.random.key(seed)}
    return Bert(config, dtype).apply(params, tokens, mask, seed is None, rngs=rngs)


def test_states_are_those_of_the_paper(setting):
    weights, params, tokens, mask = setting
    found = states(params, tokens, mask)
    double = {name: leaf.astype(np.float64) for name, leaf in weights.items()}
    for row, length in enumerate(LENGTHS):
        expected = reference.states(double, tokens[row, :length], 3, 2, CONFIG.layer_norm_eps)
        assert np.std(expected) > 0.3  # the tolerance is small beside what is compared
        np.testing.assert_allclose(found[row, :length], expected, atol=1e-5)


def test_a_hidden_token_changes_no_other_state(setting):
    """Whatever it is: it is as if it were not there, but for the positions of the others."""
    _, params, tokens, mask = setting
    mask = mask.at[0, 3].set(False)
    five, six = (states(params, tokens.at[0, 3].set(word), mask) for word in (5, 6))
    shown = np.asarray(mask)
    np.testing.assert_array_equal(five[shown], six[shown])
    everything = states(params, tokens, mask.at[0, 3].set(True))
    assert np.abs(everything - five)[0, 0].max() > 1e-3


@pytest.mark.parametrize("remat", [pytest.param(False, marks=pytest.mark.slow), True])
def test_packed_tokens_have_the_same_states_and_gradient(setting, remat):
    _, params, tokens, mask = setting
    target = np.random.default_rng(2).normal(size=(*tokens.shape, CONFIG.hidden_size))
    target = jnp.asarray(target * np.asarray(mask)[..., None], jnp.float32)
    model = Bert(SMALL, remat=remat)

    def product(params, slots):
        packing = make_packing(mask, slots) if slots else None
        found = unpack(model.apply(params, tokens, mask, packing=packing), packing)
        return jnp.sum(found * target), found

    gradient = jax.jit(jax.grad(product, has_aux=True), static_argnums=1)
    expected, padded = gradient(params, 0)
    found, packed = gradient(params, 16)
    np.testing.assert_allclose(packed[mask], padded[mask], atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)
    del expected["params"]["layers_1"]  # not of the small one
    norms = jax.tree.map(jnp.linalg.norm, expected["params"])
    # A key's bias moves all logits of a query alike.
    zero = {path[-2].key for path, n in jax.tree_util.tree_leaves_with_path(norms) if n < 1e-4}
    assert zero == {"key"}


def test_dropout_is_of_the_embeddings_and_of_every_branch(setting):
    """All of it dropped, what is left is the bias of one norm through the next one."""
    weights, params, tokens, mask = setting
    everything = dataclasses.replace(SMALL, hidden_dropout_prob=1.0)
    found = states(params, tokens, mask, everything, seed=0)
    layer = "encoder.layer.0"
    left = weights[f"{layer}.attention.output.LayerNorm.bias"][None].astype(np.float64)
    expected = reference.norm(weights, f"{layer}.output.LayerNorm", left, CONFIG.layer_norm_eps)
    expected = np.broadcast_to(expected, found.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    in_search = states(params, tokens, mask, everything)
    assert np.abs(in_search - expected).max() > 0.1


def test_dropout_of_attention_leaves_each_token_alone(setting):
    _, params, tokens, mask = setting
    other = tokens.at[0, 1:].set(tokens[0, 1:][::-1])
    for share in (1.0, 0.0):
        config = dataclasses.replace(
            SMALL, hidden_dropout_prob=0.0, attention_probs_dropout_prob=share
        )
        one, two = (states(params, rows, mask, config, seed=0)[0, 0] for rows in (tokens, other))
        assert (np.abs(one - two).max() < 1e-6) == (share == 1.0)


def test_bfloat16_is_near_float32(setting):
    _, params, tokens, mask = setting
    wide = states(params, tokens, mask)
    narrow = states(params, tokens, mask, dtype="bfloat16")
    assert narrow.dtype == jnp.bfloat16
    error = np.abs(narrow.astype(jnp.float32) - wide)[np.asarray(mask)]
    assert 1e-4 < error.mean() < 0.05


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(InputError) as error:
        BertConfig(hidden_size=13, num_attention_heads=3)
    assert error.value.args == ("hidden_size", "13", "a multiple of num_attention_heads = 3")
