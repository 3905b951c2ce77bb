import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer
from catid2_jax.training.loop import TrainState
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.seq2seq.step import (
    Seq2SeqData,
    Seq2SeqObjective,
    hide_tokens,
    make_seq2seq_step,
    count_packed_tokens,
)
from tests.reference import losses as reference

MODEL = Transformer(
    T5Config(
        emb_dim=16, num_heads=2, head_dim=8, mlp_dim=16, num_encoder_layers=1, num_decoder_layers=1
    ),
    vocabulary_size=40,
)
DATA = Seq2SeqData(
    sources=jnp.array([[5, 6, 1, 0], [7, 1, 0, 0], [8, 9, 5, 1]], jnp.int32),
    targets=jnp.array([[20, 27], [22, 25]], jnp.int32),  # codes 0 3 and 2 1 of 4, from 20 on
    source=jnp.array([0, 1, 2, 2], jnp.int32),
    document=jnp.array([0, 1, 1, 0], jnp.int32),
    weight=jnp.array([1.0, 0.5, 1.0, 2.0]),
)


@pytest.fixture(scope="module")
def params():
    return MODEL.init(
        jax.random.key(0), DATA.sources, DATA.sources > 0, jnp.zeros((3, 2), jnp.int32)
    )["params"]


def test_loss_is_equation_9_of_the_pairs_in_the_batch(params):
    optimizer = optax.sgd(0.1)
    step = jax.jit(make_seq2seq_step(MODEL, optimizer, Seq2SeqObjective(), seed=0))
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
    tokens = jnp.ones((200, 50), bool).at[:, 40:].set(False)
    mask = np.asarray(hide_tokens(tokens, 0.3, jax.random.key(0)))
    assert mask[:, 0].all()
    assert not mask[:, 40:].any()
    assert abs(mask[:, 1:40].mean() - 0.7) < 0.02
    again = np.asarray(hide_tokens(tokens, 0.3, jax.random.key(1)))
    assert (mask != again).any()
    np.testing.assert_array_equal(hide_tokens(tokens, 0.0, jax.random.key(0)), tokens)


def test_what_is_hidden_changes_from_step_to_step_and_is_the_same_on_a_rerun(params):
    optimizer = optax.sgd(0.0)
    objective = Seq2SeqObjective(source_dropout=0.5)
    step = jax.jit(make_seq2seq_step(MODEL, optimizer, objective, seed=0))

    def loss(number):
        state = TrainState(jnp.int32(number), params, optimizer.init(params))
        return float(step(state, DATA.batch(jnp.arange(4)))[1]["loss"])

    values = [loss(number) for number in range(4)]
    assert len(set(values)) > 1
    assert values == [loss(number) for number in range(4)]


def descend_once(params, objective, rows):
    optimizer = optax.sgd(1.0)
    step = jax.jit(make_seq2seq_step(MODEL, optimizer, objective, seed=0))
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    after, metrics = step(state, DATA.batch(rows))
    return jax.tree.map(lambda a, b: a - b, params, after.params), metrics


@pytest.mark.parametrize("weights", [[1.0, 0.5, 1.0, 2.0], [0.0, 1.0, 0.0, 0.0]])
def test_microbatches_have_the_loss_and_the_gradient_of_the_batch(params, weights, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "DATA", DATA.replace(weight=jnp.array(weights)))
    rows = np.array([0, 3, 1, 2])
    extra = {"position_weights": (1.0, 0.5), "label_smoothing": 0.1, "z_loss": 0.01}
    expected, figures = descend_once(params, Seq2SeqObjective(**extra), rows)
    for parts in (2, 4):
        objective = Seq2SeqObjective(**extra, microbatches=parts)
        found, metrics = descend_once(params, objective, rows)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected
        )
        for name, value in figures.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


def test_packed_sources_change_neither_loss_nor_gradient(params, monkeypatch):
    rows = np.array([0, 3, 1, 2])
    for parts, packed_tokens in ((1, 13), (2, 8)):
        objective = Seq2SeqObjective(source_dropout=0.5, microbatches=parts)
        monkeypatch.setattr(sys.modules[__name__], "DATA", DATA.replace(packed_tokens=0))
        expected, figures = descend_once(params, objective, rows)
        monkeypatch.setattr(sys.modules[__name__], "DATA", DATA.replace(packed_tokens=packed_tokens))
        found, metrics = descend_once(params, objective, rows)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected
        )
        np.testing.assert_allclose(metrics["loss"], figures["loss"], rtol=1e-6)


@pytest.mark.parametrize(("devices", "microbatches"), [(1, 1), (4, 1), (2, 3)])
def test_places_are_enough_for_every_batch(devices, microbatches):
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 401, 200)
    pairs = generator.integers(0, 200, 500)
    data = DATA.replace(sources=(np.arange(800) < lengths[:, None]).astype(np.int32), source=pairs)
    sampler = EpochSampler(500, 48, 7, devices)
    most = 0
    for step in range(3 * sampler.steps_per_epoch):
        # Each device's rows lie together, and its microbatches take turns in them.
        for rows in np.split(sampler(step, 1)[0], devices):
            for part in range(microbatches):
                most = max(most, lengths[pairs[rows[part::microbatches]]].sum())
    found = count_packed_tokens(data, sampler, 3, devices, microbatches)
    assert found % 16 == 0
    assert 0 <= found - most < 16


def test_sources_without_padding_or_in_uneven_parts_are_not_packed():
    short = DATA.replace(sources=np.eye(3, 64, dtype=np.int32), source=np.asarray(DATA.source))
    sampler = EpochSampler(4, 4, 0, devices=2)
    assert count_packed_tokens(short, sampler, 1, 2, 2) == 16
    assert count_packed_tokens(short, sampler, 1, 2, 4) == 0
    sampler = EpochSampler(4, 2, 0)
    full = DATA.replace(sources=np.ones((3, 64), np.int32), source=np.asarray(DATA.source))
    assert count_packed_tokens(full, sampler, 1, 1) == 0
    vectors = full.replace(sources=np.zeros((3, 64), np.float32))
    assert count_packed_tokens(vectors, sampler, 1, 1) == 0


def test_batches_that_do_not_split_are_refused(params):
    with pytest.raises(InputError, match="batch_size is 4: expected a multiple of 3 microbatches"):
        descend_once(params, Seq2SeqObjective(microbatches=3), np.arange(4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source_dropout": 1.0}, "source_dropout is 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"z_loss": -1.0}, "z_loss is -1.0"),
        ({"position_weights": (1.0, -1.0)}, "position_weights is"),
        ({"position_weights": (0.0, 0.0)}, "position_weights is"),
        ({"microbatches": 0}, "microbatches is 0"),
    ],
)
def test_objectives_that_are_none(fields, message):
    with pytest.raises(InputError, match=message):
        Seq2SeqObjective(**fields)
