import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.seq2seq.config import Seq2SeqObjective
from catid2_jax.seq2seq.decoder import T5Decoder, hide_tokens
from catid2_jax.seq2seq.step import Seq2SeqData, count_packed_tokens, make_seq2seq_step
from catid2_jax.training.loop import TrainState
from catid2_jax.training.sampler import EpochSampler
from tests.reference import losses as reference

CONFIG = T5Config(
    emb_dim=16, num_heads=2, head_dim=8, mlp_dim=16, num_encoder_layers=1, num_decoder_layers=1
)
DECODER = T5Decoder(CONFIG, 40, first_id_token=20, levels=2, codebook_size=4)
MODEL = DECODER.network
FULL = Seq2SeqObjective(normalize_over="full")
DATA = Seq2SeqData(
    sources=jnp.array([[5, 6, 1, 0], [7, 1, 0, 0], [8, 9, 5, 1]], jnp.int32),
    targets=jnp.array([[20, 27], [22, 25]], jnp.int32),  # codes 0 3 and 2 1 of 4, from 20 on
    source=jnp.array([0, 1, 2, 2], jnp.int32),
    document=jnp.array([0, 1, 1, 0], jnp.int32),
    weight=jnp.array([1.0, 0.5, 1.0, 2.0]),
)


@pytest.fixture(scope="module")
def params():
    return DECODER.initialize(jax.random.key(0), jax.ShapeDtypeStruct((4,), jnp.int32))


def test_loss_is_equation_9_of_the_pairs_in_the_batch(params):
    optimizer = optax.sgd(0.1)
    step = jax.jit(make_seq2seq_step(DECODER, optimizer, FULL, seed=0))
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


UNEQUAL = DATA.replace(
    # Levels of 4 codes from 20, 24 and 28 on: IDs of 2, 1 and 3 codes, token 0 after the shorter.
    targets=jnp.array([[20, 27, 0], [22, 0, 0], [21, 25, 31]], jnp.int32),
    document=jnp.array([0, 1, 2, 1], jnp.int32),
)


def teacher_forced(params, row):
    """Logits and targets of a pair of `UNEQUAL` up to the end of its ID, unpadded."""
    source = np.asarray(UNEQUAL.sources)[UNEQUAL.source[row]]
    source = jnp.asarray(source[source > 0][None])
    target = np.asarray(UNEQUAL.targets)[UNEQUAL.document[row]].tolist()
    target = target[: target.index(0) + 1] if 0 in target else target
    shifted = jnp.array([[0, *target[:-1]]], jnp.int32)
    logits = MODEL.apply({"params": params}, source, source > 0, shifted)[0]
    return np.asarray(logits, np.float64), np.array(target)


@pytest.mark.parametrize(
    "extra",
    [{}, {"position_weights": (1.0, 0.5, 0.25), "label_smoothing": 0.1, "z_loss": 0.01}],
    ids=["equation 9", "all options"],
)
def test_of_a_shorter_id_the_end_is_learnt_once_and_nothing_after_it(params, extra):
    decoder = T5Decoder(CONFIG, 40, first_id_token=20, levels=3, codebook_size=4)
    optimizer = optax.sgd(0.1)
    step = jax.jit(
        make_seq2seq_step(decoder, optimizer, dataclasses.replace(FULL, **extra), seed=0)
    )
    rows = np.array([3, 0, 2])
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    _, metrics = step(state, UNEQUAL.batch(rows))
    weights, expected, right = np.asarray(UNEQUAL.weight)[rows], [], []
    for row in rows:
        logits, target = teacher_forced(params, row)
        assert len(target) == {0: 3, 1: 2, 2: 3}[int(UNEQUAL.document[row])]
        expected.append(reference.sequence([logits], [target], [1.0], **extra))
        right.append(logits.argmax(-1) == target)
    np.testing.assert_allclose(metrics["loss"], weights @ expected / weights.sum(), rtol=1e-5)
    np.testing.assert_allclose(metrics["id"], np.mean([r.all() for r in right]), rtol=1e-6)
    np.testing.assert_allclose(metrics["first_token"], np.mean([r[0] for r in right]), rtol=1e-6)


def test_unequal_ids_can_be_learnt(params):
    """With their ends: the loss nears 0 and every ID is right as a whole, up to its end."""
    decoder = T5Decoder(CONFIG, 40, first_id_token=20, levels=3, codebook_size=4)
    optimizer, rows = optax.adam(0.02), np.array([0, 1, 2])
    step = jax.jit(make_seq2seq_step(decoder, optimizer, FULL, seed=0))
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    for _ in range(80):
        state, metrics = step(state, UNEQUAL.batch(rows))
    assert metrics["loss"] < 0.05
    assert metrics["id"] == 1
    for row in rows:
        logits, target = teacher_forced(state.params, row)
        assert logits.argmax(-1).tolist() == target.tolist()


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
    step = jax.jit(make_seq2seq_step(DECODER, optimizer, objective, seed=0))

    def loss(number):
        state = TrainState(jnp.int32(number), params, optimizer.init(params))
        return float(step(state, DATA.batch(jnp.arange(4)))[1]["loss"])

    values = [loss(number) for number in range(4)]
    assert len(set(values)) > 1
    assert values == [loss(number) for number in range(4)]


def descend_once(params, objective, rows):
    optimizer = optax.sgd(1.0)
    step = jax.jit(make_seq2seq_step(DECODER, optimizer, objective, seed=0))
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    after, metrics = step(state, DATA.batch(rows))
    return jax.tree.map(lambda a, b: a - b, params, after.params), metrics


@pytest.mark.parametrize(
    "weights",
    [[1.0, 0.5, 1.0, 2.0], pytest.param([0.0, 1.0, 0.0, 0.0], marks=pytest.mark.slow)],
)
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


@pytest.mark.slow
def test_packed_sources_change_neither_loss_nor_gradient(params, monkeypatch):
    rows = np.array([0, 3, 1, 2])
    for parts, packed_tokens in ((1, 13), (2, 8)):
        objective = Seq2SeqObjective(source_dropout=0.5, microbatches=parts)
        monkeypatch.setattr(sys.modules[__name__], "DATA", DATA.replace(packed_tokens=0))
        expected, figures = descend_once(params, objective, rows)
        packed = DATA.replace(packed_tokens=packed_tokens)
        monkeypatch.setattr(sys.modules[__name__], "DATA", packed)
        found, metrics = descend_once(params, objective, rows)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected
        )
        np.testing.assert_allclose(metrics["loss"], figures["loss"], rtol=1e-6)


@pytest.mark.parametrize(("devices", "microbatches"), [(1, 1), (4, 1), (2, 3)])
def test_packed_tokens_are_enough_for_every_batch(devices, microbatches):
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 401, 200)
    pairs = generator.integers(0, 200, 500)
    data = DATA.replace(sources=(np.arange(800) < lengths[:, None]).astype(np.int32), source=pairs)
    sampler = EpochSampler(500, 48, 7, devices)
    most = 0
    steps = 2 * sampler.steps_per_epoch + 3
    for step in range(steps):
        # Each device's rows lie together, and its microbatches take turns in them.
        for rows in np.split(sampler(step, 1)[0], devices):
            for part in range(microbatches):
                most = max(most, lengths[pairs[rows[part::microbatches]]].sum())
    found = count_packed_tokens(data, sampler, steps, devices, microbatches)
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
    with pytest.raises(InputError) as error:
        descend_once(params, Seq2SeqObjective(microbatches=3), np.arange(4))
    assert error.value.args == ("batch_size", "4", "a multiple of 3 microbatches")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source_dropout", 1.0),
        ("label_smoothing", -0.1),
        ("z_loss", -1.0),
        ("position_weights", (1.0, -1.0)),
        ("position_weights", (0.0, 0.0)),
        ("microbatches", 0),
    ],
)
def test_objectives_that_are_none(name, value):
    with pytest.raises(InputError) as error:
        Seq2SeqObjective(**{name: value})
    found = "-1.0" if value == (1.0, -1.0) else str(value)
    assert (error.value.where, error.value.found) == (name, found)
