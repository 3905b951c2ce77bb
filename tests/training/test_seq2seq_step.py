import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer
from catid2_jax.training.loop import TrainState
from catid2_jax.training.seq2seq_step import Seq2SeqData, hide_tokens, id_tokens, make_seq2seq_step
from tests.reference import losses as reference

MODEL = Transformer(
    T5Config(
        emb_dim=16, num_heads=2, head_dim=8, mlp_dim=16, num_encoder_layers=1, num_decoder_layers=1
    ),
    vocabulary_size=40,
)
DATA = Seq2SeqData(
    sources=jnp.array([[5, 6, 1, 0], [7, 1, 0, 0], [8, 9, 5, 1]], jnp.int32),
    targets=jnp.asarray(id_tokens(np.array([[0, 3], [2, 1]]), 20, 4)),
    source=jnp.array([0, 1, 2, 2], jnp.int32),
    document=jnp.array([0, 1, 1, 0], jnp.int32),
    weight=jnp.array([1.0, 0.5, 1.0, 2.0]),
)


@pytest.fixture(scope="module")
def params():
    return MODEL.init(
        jax.random.key(0), DATA.sources, DATA.sources > 0, jnp.zeros((3, 2), jnp.int32)
    )["params"]


def test_id_token_of_level_l_and_code_c():
    tokens = id_tokens(np.array([[0, 3], [2, 1]]), first_id_token=100, codes_per_level=256)
    np.testing.assert_array_equal(tokens, [[100, 100 + 256 + 3], [102, 100 + 256 + 1]])


def test_loss_is_equation_9_of_the_pairs_in_the_batch(params):
    optimizer = optax.sgd(0.1)
    step = jax.jit(make_seq2seq_step(MODEL, optimizer, source_dropout=0.0, seed=0))
    rows = np.array([3, 1, 0])
    state, metrics = step(
        TrainState(jnp.int32(0), params, optimizer.init(params)), DATA.batch(rows)
    )
    # Pair by pair and unpadded; the decoder sees 0 and then the first ID token.
    logits, targets = [], []
    for row in rows:
        source = np.asarray(DATA.sources)[DATA.source[row]]
        source = jnp.asarray(source[source > 0][None])
        target = np.asarray(DATA.targets)[DATA.document[row]]
        shifted = jnp.array([[0, target[0]]], jnp.int32)
        logits.append(MODEL.apply({"params": params}, source, source > 0, shifted)[0])
        targets.append(target)
    expected = reference.sequence(
        np.array(logits, np.float64), targets, np.asarray(DATA.weight)[rows]
    )
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    after = step(state, DATA.batch(rows))[1]["loss"]
    assert after < metrics["loss"]


def test_hidden_tokens_are_the_asked_share_and_never_the_first():
    tokens = jnp.ones((200, 50), jnp.int32).at[:, 40:].set(0)
    mask = np.asarray(hide_tokens(tokens, 0.3, jax.random.key(0)))
    assert mask[:, 0].all()
    assert not mask[:, 40:].any()
    assert abs(mask[:, 1:40].mean() - 0.7) < 0.02
    again = np.asarray(hide_tokens(tokens, 0.3, jax.random.key(1)))
    assert (mask != again).any()
    np.testing.assert_array_equal(hide_tokens(tokens, 0.0, jax.random.key(0)), tokens > 0)


def test_what_is_hidden_changes_from_step_to_step_and_is_the_same_on_a_rerun(params):
    optimizer = optax.sgd(0.0)
    step = jax.jit(make_seq2seq_step(MODEL, optimizer, source_dropout=0.5, seed=0))

    def loss(number):
        state = TrainState(jnp.int32(number), params, optimizer.init(params))
        return float(step(state, DATA.batch(jnp.arange(4)))[1]["loss"])

    values = [loss(number) for number in range(4)]
    assert len(set(values)) > 1
    assert values == [loss(number) for number in range(4)]
