"""Stage 2 through the loop: its options, an interrupted run, Recall on dev and early stopping."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from catid2_jax.docids.table import DocidTable
from catid2_jax.docids.vocabulary import PAD, Vocabulary, train_vocabulary
from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer
from catid2_jax.models.t5.sharding import check_divisible, partition_specs
from catid2_jax.seq2seq.config import DevEvaluationConfig, Seq2SeqObjective
from catid2_jax.seq2seq.decoder import make_decoder
from catid2_jax.seq2seq.evaluation import make_recall_evaluator
from catid2_jax.seq2seq.step import Seq2SeqData, make_seq2seq_step
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.training.sharding import data_mesh
from tests.reference import losses as reference

SHAPE = T5Config(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=16,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dropout_rate=0.1,
)
TEXTS = [
    f"{color} {thing}" for color in ("red", "blue", "oak") for thing in ("lamp", "shoe", "mug")
]
CODES = np.array([[n // 3, n % 3] for n in range(9)], np.int32)
TABLE = DocidTable([f"p{n}" for n in range(9)], CODES)
QRELS = {f"q{n}": {f"p{n}": 3} for n in range(9)}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "v.model"
    path.write_bytes(train_vocabulary(TEXTS * 9, 40))
    return Vocabulary(path, levels=2, codebook_size=3)


@functools.cache
def initial(rows, config=SHAPE):
    tokens = jnp.zeros((1, 1), jnp.int32)
    return Transformer(config, rows).init(jax.random.key(0), tokens, tokens == 0, tokens)["params"]


def layers_of(config):
    """`SHAPE` with as many layers."""
    count = config.num_encoder_layers
    return dataclasses.replace(SHAPE, num_encoder_layers=count, num_decoder_layers=count)


def pairs(vocabulary, weight=(1.0,) * 9):
    sources, targets = vocabulary.encode(TEXTS, 8), vocabulary.encode_codes(CODES)
    everyone = np.arange(9, dtype=np.int32)
    data = Seq2SeqData(sources, targets, everyone, everyone, np.array(weight, np.float32))
    return jax.tree.map(jnp.asarray, data)


def descend_once(vocabulary, config, objective, weight=(1.0,) * 9):
    """The gradient and the metrics of one step over all pairs."""
    decoder = make_decoder("t5", config, vocabulary)
    step = make_seq2seq_step(decoder, optax.sgd(1.0), objective, 0)
    params = initial(vocabulary.rows, layers_of(config))
    state = TrainState(jnp.int32(0), params, optax.sgd(1.0).init(params))
    after, metrics = jax.jit(step)(state, pairs(vocabulary, weight).batch(jnp.arange(9)))
    return jax.tree.map(lambda a, b: np.asarray(a - b), params, after.params), metrics


def distances(one, other):
    """Of each gradient, relative to its length."""
    norms = jax.tree.map(lambda a, b: np.linalg.norm(a - b) / np.linalg.norm(b), one, other)
    return jax.tree.leaves(norms)


def test_the_objective_reaches_the_loss(vocabulary):
    fields = {"position_weights": (1.0, 0.25), "label_smoothing": 0.2, "z_loss": 0.1}
    objective = Seq2SeqObjective(**fields, normalize_over="full")
    weight = np.linspace(0.5, 1.5, 9)
    still = dataclasses.replace(SHAPE, dropout_rate=0.0)
    _, metrics = descend_once(vocabulary, still, objective, weight)
    data = pairs(vocabulary)
    inputs = jnp.pad(data.targets[:, :1], ((0, 0), (1, 0)))
    logits = Transformer(still, vocabulary.rows).apply(
        {"params": initial(vocabulary.rows)}, data.sources, data.sources != PAD, inputs
    )
    expected = reference.sequence(np.asarray(logits, np.float64), data.targets, weight, **fields)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


@pytest.mark.slow
def test_remat_changes_the_memory_and_not_the_gradient(vocabulary):
    """With dropout: what is computed again must draw the same masks."""
    shape = dataclasses.replace(SHAPE, num_encoder_layers=2, num_decoder_layers=2)
    objective = Seq2SeqObjective(source_dropout=0.3)
    plain, figures = descend_once(vocabulary, shape, objective)
    config = dataclasses.replace(shape, remat=True)
    again, metrics = descend_once(vocabulary, config, objective)
    assert metrics["loss"] == pytest.approx(float(figures["loss"]), rel=1e-6)
    assert max(distances(again, plain)) < 1e-5
    still, _ = descend_once(vocabulary, dataclasses.replace(shape, dropout_rate=0.0), objective)
    assert min(distances(still, plain)) > 1e-3  # else the masks would not have shown
    assert residuals(vocabulary, config) < 0.6 * residuals(vocabulary, shape)


def residuals(vocabulary, config):
    """Bytes that a forward pass keeps for the gradient."""
    model, data = Transformer(config, vocabulary.rows), pairs(vocabulary)

    def loss(params):
        rngs = {"dropout": jax.random.key(0)}
        mask = data.sources != PAD
        return jnp.sum(
            model.apply({"params": params}, data.sources, mask, data.targets, False, rngs=rngs)
        )

    params = initial(vocabulary.rows, layers_of(config))
    _, backward = jax.eval_shape(lambda params: jax.vjp(loss, params), params)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))


@pytest.mark.slow
def test_bfloat16_is_near_float32_and_keeps_float32_parameters(vocabulary):
    wide, figures = descend_once(vocabulary, SHAPE, Seq2SeqObjective())
    config = dataclasses.replace(SHAPE, dtype="bfloat16")
    narrow, metrics = descend_once(vocabulary, config, Seq2SeqObjective())
    # Eight bits of mantissa: 0.4 % per rounding.
    np.testing.assert_allclose(metrics["loss"], figures["loss"], rtol=0.01)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(narrow)} == {"float32"}
    assert min(distances(narrow, wide)) > 1e-4
    assert max(distances(narrow, wide)) < 0.1


TRAINING = TrainingConfig(
    batch_size=4,
    epochs=6,
    warmup_steps=3,
    learning_rate=0.01,
    schedule="cosine",
    max_gradient_norm=1.0,
    steps_per_dispatch=3,
    checkpoint_every=1,
    evaluate_every=4,
)


def fit(vocabulary, directory, training=TRAINING, evaluator=None, params=None):
    """Trains as the step of the chain does; returns the last state."""
    sampler = EpochSampler(9, training.batch_size, 0)
    optimizer = make_optimizer(training, training.epochs * sampler.steps_per_epoch)
    objective = Seq2SeqObjective(source_dropout=0.2, label_smoothing=0.1)
    step = make_seq2seq_step(make_decoder("t5", SHAPE, vocabulary), optimizer, objective, 0)
    params = params or initial(vocabulary.rows)
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    data, specs = pairs(vocabulary), partition_specs(state)
    with Checkpoints(directory, training.best_metric, training.best_mode) as checkpoints:
        return train(
            step, state, data, sampler, training, checkpoints, "fit", evaluator, None, specs
        )


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("adafactor", marks=pytest.mark.slow)])
def test_resumed_is_bit_identical_to_uninterrupted(vocabulary, tmp_path, monkeypatch, optimizer):
    training = dataclasses.replace(TRAINING, optimizer=optimizer)
    whole = fit(vocabulary, tmp_path / "whole", training)
    original = EpochSampler.__call__

    def killed(self, first, steps):
        if first == 7:
            raise ConnectionAbortedError
        return original(self, first, steps)

    monkeypatch.setattr(EpochSampler, "__call__", killed)
    with pytest.raises(ConnectionAbortedError):
        fit(vocabulary, tmp_path / "killed", training)
    monkeypatch.setattr(EpochSampler, "__call__", original)
    with Checkpoints(tmp_path / "killed") as checkpoints:
        assert checkpoints.latest_step == 7
    # What it starts from must not matter any more.
    other = jax.tree.map(jnp.zeros_like, initial(vocabulary.rows))
    again = fit(vocabulary, tmp_path / "killed", training, params=other)
    assert int(again.step) == int(whole.step) == 12
    ours, theirs = (jax.tree_util.tree_leaves_with_path(state) for state in (again, whole))
    assert len(ours) == len(theirs) > 80
    for (path, a), (_, b) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
def test_several_steps_in_a_dispatch_are_those_of_one_each(vocabulary, tmp_path):
    many = fit(vocabulary, tmp_path / "many")
    one = fit(vocabulary, tmp_path / "one", dataclasses.replace(TRAINING, steps_per_dispatch=1))
    for a, b in zip(jax.tree.leaves(many.params), jax.tree.leaves(one.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def recall_evaluator(vocabulary, beams=9, cutoffs=(1, 3, 20)):
    decoder, sources = make_decoder("t5", SHAPE, vocabulary), vocabulary.encode(TEXTS, 8)
    config = DevEvaluationConfig(9, beams, "level", cutoffs)
    return make_recall_evaluator(decoder, TABLE, sources, QRELS, config, "full")


def test_recall_on_dev_is_that_of_the_teacher_forced_ranking(vocabulary, tmp_path):
    """Every ID of every query is scored by the network; none of the search's code is used."""
    state = fit(vocabulary, tmp_path)
    with jax.set_mesh(data_mesh()):
        figures = recall_evaluator(vocabulary)(state)
    model, data = Transformer(SHAPE, vocabulary.rows), pairs(vocabulary)
    scores = np.zeros((9, 9))
    for n, target in enumerate(data.targets):
        inputs = jnp.tile(jnp.array([[PAD, target[0]]]), (9, 1))
        logits = model.apply({"params": state.params}, data.sources, data.sources != PAD, inputs)
        for level in range(2):
            start = vocabulary.first_id_token + 3 * level
            chances = jax.nn.log_softmax(logits[:, level, start : start + 3], axis=-1)
            scores[:, n] += np.asarray(chances)[:, CODES[n, level]]
    place = (scores > scores.diagonal()[:, None]).sum(axis=1)
    assert figures == {
        "dev/recall@1": pytest.approx((place < 1).mean()),
        "dev/recall@3": pytest.approx((place < 3).mean()),
    }
    assert figures["dev/recall@1"] < figures["dev/recall@3"]


@pytest.mark.slow
def test_training_ends_when_recall_no_longer_rises_and_keeps_the_best(vocabulary, tmp_path):
    training = dataclasses.replace(
        TRAINING, epochs=200, best_metric="dev/recall@1", patience=3, learning_rate=0.02
    )
    measured = {}
    evaluate = recall_evaluator(vocabulary)

    def recorded(state):
        figures = evaluate(state)
        measured[int(state.step)] = figures["dev/recall@1"], jax.device_get(state.params)
        return figures

    last = int(fit(vocabulary, tmp_path, training, recorded).step)
    values = {step: value for step, (value, _) in measured.items()}
    best = max(values, key=lambda step: (values[step], -step))
    assert values[best] > values[4]  # it has learnt something
    assert last == best + 3 * 4 < 400
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_step == best
        optimizer = make_optimizer(training, 1)
        params = initial(vocabulary.rows)
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        kept = checkpoints.restore(state, "best")
    assert int(kept.step) == best
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(kept.params), measured[best][1])


def test_what_devices_cannot_share_evenly_is_refused():
    check_divisible(SHAPE, 128, 2)
    for config, rows, name, size in (
        (SHAPE, 128, "num_heads", "2"),
        (dataclasses.replace(SHAPE, num_heads=4, mlp_dim=18), 128, "mlp_dim", "18"),
        (dataclasses.replace(SHAPE, num_heads=4), 130, "rows of the vocabulary", "130"),
    ):
        with pytest.raises(InputError) as error:
            check_divisible(config, rows, 4)
        assert error.value.args == (name, size, "a multiple of model_devices = 4")
