"""The softmax over a level: loss, gradient and search beside the masked softmax over everything."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import rel_entr, softmax

from catid2_jax.config import Config
from catid2_jax.decoding.trie import build_trie
from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.retrievers.config import RetrieveConfig
from catid2_jax.seq2seq.config import DevEvaluationConfig, Seq2SeqConfig, Seq2SeqObjective
from catid2_jax.seq2seq.decoder import T5Decoder, resolve_normalize_over
from catid2_jax.seq2seq.search import retrieve
from catid2_jax.seq2seq.step import Seq2SeqData, make_seq2seq_step
from catid2_jax.training.loop import TrainState
from tests.reference import losses as reference

FIRST, K, L, V = 20, 4, 3, 40
CONFIG = T5Config(
    emb_dim=16, num_heads=2, head_dim=8, mlp_dim=16, num_encoder_layers=1, num_decoder_layers=1
)
SOURCES = np.array([[5, 6, 1, 0], [7, 1, 0, 0], [8, 9, 5, 1], [9, 1, 0, 0]], np.int32)
CODES = {
    "equal": np.array([[0, 3, 2], [2, 1, 0], [1, 1, 3], [2, 1, 3]]),
    "unequal": np.array([[0, 3, -1], [2, -1, -1], [1, 1, 3], [2, 1, -1]]),
}
WEIGHT = np.array([1.0, 0.5, 2.0, 1.0], np.float32)
EXTRA = {"position_weights": (1.0, 0.5, 0.25), "label_smoothing": 0.1, "z_loss": 0.01}
LEVEL = Seq2SeqObjective(**EXTRA, normalize_over="level")


def decoder(tied=False):
    return T5Decoder(dataclasses.replace(CONFIG, logits_via_embedding=tied), V, FIRST, L, K)


def random_params(tied=False):
    shapes = jax.eval_shape(
        decoder(tied).initialize, jax.random.key(0), jax.ShapeDtypeStruct((4,), jnp.int32)
    )
    draw = np.random.default_rng(0).normal
    return jax.tree.map(lambda s: jnp.asarray(draw(0, 0.5, s.shape), jnp.float32), shapes)


def tokens_of(codes):
    return np.where(codes < 0, 0, codes + FIRST + K * np.arange(L)).astype(np.int32)


def competing(ids, position):
    """The tokens that compete at a position, in the order of their columns."""
    own = [FIRST + K * position + code for code in range(K)]
    return [*own, 0] if ids == "unequal" and position else own


def descend_once(params, ids, objective, tied=False, packed_tokens=0):
    """The gradient and the metrics of one step over all pairs."""
    everyone = np.arange(4, dtype=np.int32)
    codes = CODES[ids]
    data = Seq2SeqData(SOURCES, tokens_of(codes), everyone, everyone, WEIGHT, packed_tokens)
    batch = jax.tree.map(jnp.asarray, data.replace(ends=bool((codes < 0).any())).batch(everyone))
    step = make_seq2seq_step(decoder(tied), optax.sgd(1.0), objective, seed=0)
    state = TrainState(jnp.int32(0), params, optax.sgd(1.0).init(params))
    after, metrics = jax.jit(step)(state, batch)
    return jax.tree.map(lambda a, b: np.asarray(a - b), params, after.params), metrics


def all_logits(params, ids, tied=False):
    """Of the whole vocabulary, by the network itself; [4, L, V]."""
    inputs = jnp.asarray(np.pad(tokens_of(CODES[ids]), ((0, 0), (1, 0)))[:, :L])
    network, sources = decoder(tied).network, jnp.asarray(SOURCES)
    return network.apply({"params": params}, sources, sources > 0, inputs)


@pytest.mark.parametrize("ids", ["equal", "unequal"])
def test_loss_is_equation_9_over_the_tokens_of_each_level(ids):
    params = random_params()
    logits, pairs, right = np.asarray(all_logits(params, ids), np.float64), [], []
    for n, codes in enumerate(CODES[ids].tolist()):
        length = min(L, codes.index(-1) + 1 if -1 in codes else L)
        columns = [code if code >= 0 else K for code in codes[:length]]
        rows = [logits[n, t, competing(ids, t)] for t in range(length)]
        pairs.append(reference.sequence([rows], [columns], [1.0], **EXTRA))
        right.append([row.argmax() == c for row, c in zip(rows, columns, strict=True)])
    _, metrics = descend_once(params, ids, LEVEL)
    np.testing.assert_allclose(metrics["loss"], WEIGHT @ pairs / WEIGHT.sum(), rtol=1e-5)
    np.testing.assert_allclose(metrics["first_token"], np.mean([r[0] for r in right]), rtol=1e-6)
    np.testing.assert_allclose(metrics["id"], np.mean([all(r) for r in right]), rtol=1e-6)


def masked_loss(params, ids, tied):
    """The same of all logits, with those that do not compete at -inf."""
    mask = np.zeros((L, V), bool)
    for t in range(L):
        mask[t, competing(ids, t)] = True
    targets, total = tokens_of(CODES[ids]), 0.0
    logits = jnp.where(mask[None], all_logits(params, ids, tied), -jnp.inf)
    log_p = jax.nn.log_softmax(logits, axis=-1)
    for n, row in enumerate(targets):
        for t, token in enumerate(row):
            if t and row[t - 1] == 0:
                continue  # the ID has ended
            smooth = jnp.mean(log_p[n, t, np.flatnonzero(mask[t])])
            loss = -0.9 * log_p[n, t, token] - 0.1 * smooth
            loss += 0.01 * jax.nn.logsumexp(logits[n, t]) ** 2
            total += WEIGHT[n] * EXTRA["position_weights"][t] * loss
    return total / WEIGHT.sum()


@pytest.mark.parametrize(
    ("ids", "tied"),
    [("equal", False), ("unequal", True), pytest.param("unequal", False, marks=pytest.mark.slow)],
)
def test_gradient_is_that_of_the_masked_softmax(ids, tied):
    """In microbatches of packed tokens, too."""
    params = random_params(tied)
    value, expected = jax.jit(jax.value_and_grad(masked_loss), static_argnums=(1, 2))(
        params, ids, tied
    )
    split = dataclasses.replace(LEVEL, microbatches=2)
    for objective, packed_tokens in ((LEVEL, 0), (split, 7)):
        found, metrics = descend_once(params, ids, objective, tied, packed_tokens)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
        )


@pytest.mark.parametrize("position", range(L))
def test_a_position_moves_the_logits_of_its_level_alone(position):
    weights = tuple(float(t == position) for t in range(L))
    objective = Seq2SeqObjective(position_weights=weights, normalize_over="level")
    gradient, _ = descend_once(random_params(), "unequal", objective)
    moved = np.flatnonzero(np.abs(gradient["decoder"]["logits_dense"]["kernel"]).max(axis=0))
    assert moved.tolist() == sorted(competing("unequal", position))


@pytest.mark.parametrize("ids", ["equal", "unequal"])
def test_scores_of_the_search_are_the_trained_log_probabilities(ids):
    """Of each pair alone, the loss is the score of its ID with the sign turned."""
    params, trie = random_params(), build_trie(CODES[ids], K)
    over = resolve_normalize_over("auto", "level")
    search = jax.jit(retrieve, static_argnames=("decoder", "beams", "k", "normalize_over"))
    found = search(decoder(), params, SOURCES, trie, beams=4, k=4, normalize_over=over)
    objective = Seq2SeqObjective(normalize_over="level")
    step = jax.jit(make_seq2seq_step(decoder(), optax.sgd(1.0), objective, seed=0))
    state = TrainState(jnp.int32(0), params, optax.sgd(1.0).init(params))
    data = Seq2SeqData(
        SOURCES, tokens_of(CODES[ids]), *np.indices((4, 4)).reshape(2, 16), np.ones(16, np.float32)
    ).replace(ends=ids == "unequal")
    for pair in range(16):
        batch = jax.tree.map(jnp.asarray, data.batch(np.array([pair])))
        query, document = divmod(pair, 4)
        score = found.scores[query][found.documents[query] == document].item()
        np.testing.assert_allclose(-step(state, batch)[1]["loss"], score, rtol=1e-5)


def test_two_passes_have_their_mean_loss_and_r_drop_beside_it():
    """With weights that fall from code to code."""
    params, targets = random_params(), tokens_of(CODES["unequal"])
    objective = Seq2SeqObjective(source_dropout=0.5, r_drop=0.7, position_decay=0.5)
    _, metrics = descend_once(params, "unequal", objective)
    columns = np.where(targets == 0, K, CODES["unequal"])
    scored = np.pad(targets, ((0, 0), (1, 0)), constant_values=1)[:, :L] != 0
    logits = functools.partial(
        decoder().logits, source_dropout=0.5, normalize_over="level", ends=True
    )
    one_pass = jax.jit(lambda key: logits(params, jnp.asarray(SOURCES), jnp.asarray(targets), key))
    p, q = (
        softmax(np.asarray(one_pass(key), np.float64), axis=-1)
        for key in jax.random.split(jax.random.fold_in(jax.random.key(0), 0))
    )
    assert np.abs(p - q).max() > 0.01
    total = 0.0
    for n, t in zip(*np.nonzero(scored), strict=True):
        chosen = -np.log(p[n, t, columns[n, t]]) - np.log(q[n, t, columns[n, t]])
        apart = rel_entr(p[n, t], q[n, t]).sum() + rel_entr(q[n, t], p[n, t]).sum()
        total += WEIGHT[n] * (0.5**t * chosen / 2 + 0.7 * apart / 2)
    np.testing.assert_allclose(metrics["loss"], total / WEIGHT.sum(), rtol=1e-4)


def test_ends_that_are_not_announced_are_no_loss():
    """Rather than one that looks like one."""
    data = Seq2SeqData(SOURCES, tokens_of(CODES["unequal"]), *[np.arange(4)] * 2, WEIGHT)
    step = make_seq2seq_step(decoder(), optax.sgd(1.0), LEVEL, seed=0)
    params = random_params()
    state = TrainState(jnp.int32(0), params, optax.sgd(1.0).init(params))
    batch = jax.tree.map(jnp.asarray, data.batch(np.arange(4)))
    assert np.isnan(jax.jit(step)(state, batch)[1]["loss"])


@dataclasses.dataclass(frozen=True)
class Stubborn(T5Decoder):
    """Gives the logits of the whole vocabulary, whatever is asked for."""

    def logits(self, *arguments, normalize_over, ends):
        return super().logits(*arguments)


def test_logits_of_another_shape_are_refused():
    made = Stubborn(CONFIG, V, FIRST, L, K)
    step = make_seq2seq_step(made, optax.sgd(1.0), LEVEL, seed=0)
    data = Seq2SeqData(SOURCES, tokens_of(CODES["equal"]), *[np.arange(4)] * 2, WEIGHT)
    params = random_params()
    state = TrainState(jnp.int32(0), params, optax.sgd(1.0).init(params))
    with pytest.raises(InputError) as error:
        jax.eval_shape(step, state, data.batch(np.arange(4)))
    assert error.value.args == ("logits of Stubborn over 'level'", "(4, 3, 40)", "(4, 3, 4)")


def test_what_is_searched_over_follows_what_was_trained_over():
    found = {
        (asked, trained): resolve_normalize_over(asked, trained)
        for asked, trained in [
            ("auto", "full"),
            ("auto", "level"),
            ("full", "full"),
            ("level", "full"),
            ("level", "level"),
            ("valid", "full"),
            ("valid", "level"),
        ]
    }
    assert found.pop(("auto", "full")) == "full"
    assert found.pop(("auto", "level")) == "level"
    assert all(over == asked for (asked, _), over in found.items())


def test_a_search_over_what_was_not_trained_is_refused():
    full = DevEvaluationConfig(normalize_over="full")
    with pytest.raises(InputError) as error:
        Seq2SeqConfig(objective=LEVEL, evaluation=full)
    assert error.value.where == "evaluation.normalize_over"
    assert error.value.found == "'full' with objective.normalize_over = 'level'"
    seq2seq = Seq2SeqConfig(objective=LEVEL)
    with pytest.raises(InputError) as error:
        Config(seq2seq=seq2seq, retrieve=RetrieveConfig(normalize_over="full"))
    assert error.value.where == "retrieve.normalize_over"
    for over in ("auto", "level", "valid"):
        Config(seq2seq=seq2seq, retrieve=RetrieveConfig(normalize_over=over))
