"""The figures of an evaluation against other libraries, and dead codes that are moved."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import chisquare, entropy
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from catid2_jax.models.rqvae import RQVAE
from catid2_jax.schemes.rqvae import evaluation
from catid2_jax.schemes.rqvae.evaluation import (
    corpus_latents,
    figure_names,
    make_rqvae_evaluator,
    nearest_codes,
)
from catid2_jax.schemes.rqvae.reseeding import make_reseeding_hook, reseed
from catid2_jax.schemes.rqvae.step import RQVAEData, make_rqvae_step
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer
from catid2_jax.training.sampler import EpochSampler
from tests.plain import plain_rqvae, plain_weights

N, L, K, Z = 40, 3, 8, 3
CONFIG = plain_rqvae(levels=L, codebook_size=K, category_levels=2, latent_dim=Z, hidden_dims=(6,))
MODEL = RQVAE(CONFIG, embedding_dim=5)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(N, 5)).astype(np.float32)
CATEGORIES = np.array([[i % 2, i % 4] if i % 7 else [i % 2, -1] for i in range(N)], np.int32)
DATA = RQVAEData(X, CATEGORIES)
TRAINING = TrainingConfig(batch_size=16, epochs=9, steps_per_dispatch=2, learning_rate=0.01)


def start(training=TRAINING):
    """A state and its optimizer, with moments that are not zero.

    Codes 5, 6 and 7 of level 1 are far from every document; each other code is where one of the
    documents is.
    """
    params = MODEL.init(jax.random.key(0), jnp.asarray(X))["params"]
    residuals, codebooks = corpus_latents(MODEL, params, X), []
    for level in range(L):
        codebook = residuals[level :: N // K][:K].copy()
        if level == 0:
            codebook[5:] += 1000
        residuals = residuals - codebook[cdist(residuals, codebook).argmin(axis=1)]
        codebooks.append(codebook)
    params = {**params, "quantizer": {"codebooks": jnp.asarray(np.stack(codebooks))}}
    optimizer = make_optimizer(training, 100)
    moments = jax.tree.map(
        lambda leaf: leaf + jnp.arange(1, leaf.size + 1, dtype=leaf.dtype).reshape(leaf.shape),
        optimizer.init(params),
    )
    return TrainState(jnp.int32(3), params, moments), optimizer


def by_hand(state):
    """Latents, and codes by brute force."""
    params = jax.tree.map(np.asarray, state.params)
    first, last = params["encoder"]["Dense_0"], params["encoder"]["Dense_1"]
    latents = np.maximum(X @ first["kernel"] + first["bias"], 0) @ last["kernel"] + last["bias"]
    left, codes, lefts = latents.astype(np.float64), [], []
    for codebook in params["quantizer"]["codebooks"]:
        codes.append(cdist(left, codebook).argmin(axis=1))
        lefts.append(left)
        left = left - codebook[codes[-1]]
    return latents, np.stack(codes, axis=1), [*lefts, left]


@pytest.fixture
def spoken(monkeypatch):
    """What is printed."""
    lines = []
    monkeypatch.setattr(evaluation.console, "print", lambda text, **style: lines.append(text))
    return lines


def cosine_by_hand(state):
    """Mean cosine of the documents and their reconstructions."""
    latents, _, lefts = by_hand(state)
    decoder = jax.tree.map(np.asarray, state.params["decoder"])
    hidden = (latents - lefts[-1]) @ decoder["Dense_0"]["kernel"] + decoder["Dense_0"]["bias"]
    found = np.maximum(hidden, 0) @ decoder["Dense_1"]["kernel"] + decoder["Dense_1"]["bias"]
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(X, axis=1)
    return np.mean(np.sum(found * X, axis=1) / norms)


def test_figures_are_those_of_independent_computations(spoken):
    state, _ = start()
    figures = make_rqvae_evaluator(MODEL, DATA, plain_weights(), seed=0)(state)
    latents, codes, lefts = by_hand(state)
    np.testing.assert_allclose(corpus_latents(MODEL, state.params, X), latents, atol=1e-5)
    codebooks = np.asarray(state.params["quantizer"]["codebooks"])
    np.testing.assert_array_equal(nearest_codes(codebooks, latents), codes)

    ids = [tuple(row) for row in codes]
    expected = {"collision_rate": np.mean([ids.count(one) > 1 for one in ids])}
    variance = np.mean(np.sum((latents - latents.mean(axis=0)) ** 2, axis=1))
    for level in range(L):
        usage = np.bincount(codes[:, level], minlength=K)
        name = f"level_{level + 1}"
        expected[f"perplexity/{name}"] = np.exp(entropy(usage))
        expected[f"codes_used/{name}"] = len(set(codes[:, level])) / K
        expected[f"dead_codes/{name}"] = K - len(set(codes[:, level]))
        error = np.mean(np.sum(lefts[level + 1] ** 2, axis=1))
        expected[f"quantization_error/{name}"] = error / variance
    for level in range(2):
        known = CATEGORIES[:, level] >= 0
        nodes = CATEGORIES[known, level]
        prefixes = ["-".join(map(str, row)) for row in codes[known, : level + 1]]
        name = f"level_{level + 1}"
        expected[f"category_nmi/{name}"] = normalized_mutual_info_score(nodes, prefixes)
        expected[f"category_ami/{name}"] = adjusted_mutual_info_score(nodes, prefixes)
        members = [nodes[np.array(prefixes) == one] for one in set(prefixes)]
        expected[f"category_purity/{name}"] = sum(
            np.bincount(group).max() for group in members
        ) / len(nodes)

    def shared(pairs):
        return np.mean([np.cumprod(codes[i] == codes[j]).sum() for i, j in pairs])

    def leaf(i):
        return tuple(CATEGORIES[i])

    pairs = list(itertools.combinations(range(N), 2))
    cosines = 1 - cdist(X, X, "cosine") - 9 * np.eye(N)
    near = [(i, j) for i in range(N) for j in np.argsort(-cosines[i])[:10]]
    expected["common_prefix/all_pairs"] = shared(pairs)
    expected["common_prefix/within_leaf"] = shared([p for p in pairs if leaf(p[0]) == leaf(p[1])])
    expected["common_prefix/across_leaves"] = shared([p for p in pairs if leaf(p[0]) != leaf(p[1])])
    expected["common_prefix/nearest_neighbors"] = shared(near)
    diagnosed = {n for n in figures if n.startswith(("gradient_norm/", "usage_correlation/"))}
    expected["reconstruction_cosine"] = cosine_by_hand(state)
    assert len(diagnosed) == 4 + L  # `test_diagnosis.py` has their values
    assert figures.keys() - diagnosed == expected.keys()
    assert figures.keys() <= set(figure_names(CONFIG))
    for name, value in expected.items():
        np.testing.assert_allclose(figures[name], value, rtol=1e-5, atol=1e-9, err_msg=name)

    line = spoken[0]
    dead = " ".join(f"{expected[f'dead_codes/level_{i}']:.0f}" for i in (1, 2, 3))
    assert line.startswith(f"step 3: collisions {expected['collision_rate']:.2%}, perplexity ")
    assert f"dead codes {dead}, error" in line


def test_a_dying_codebook_is_named_once_with_what_to_change(spoken):
    state, _ = start()
    codebooks = np.array(state.params["quantizer"]["codebooks"])
    codebooks[1, 3:] += 1000  # level 2 keeps 3 of 8 codes; level 1 has 5, more than half
    codebooks[2] = np.random.default_rng(2).normal(size=(K, Z))

    def warnings(evaluate, codebooks):
        spoken.clear()
        params = {**state.params, "quantizer": {"codebooks": jnp.asarray(codebooks)}}
        evaluate(state.replace(params=params))
        return [line for line in spoken if line.startswith("warning: the codebook")]

    evaluate = make_rqvae_evaluator(MODEL, DATA, plain_weights(), seed=0)
    (line,) = warnings(evaluate, codebooks)
    assert line.startswith("warning: the codebook of level 2 is dying: 3 of 8 codes in use, perp")
    for field in ("reseed_dead_codes", "cluster_scale", "dispersion",
                  "hierarchical_class", "standardised"):  # fmt: skip
        assert field in line
    assert warnings(evaluate, codebooks) == []  # said once
    codebooks[2, 1:] += 1000
    (line,) = warnings(evaluate, codebooks)  # another level is another warning
    assert line.startswith("warning: the codebook of level 3 is dying: 1 of 8 codes in use, perp")
    assert line.count("perplexity 1.") == 1
    assert len(warnings(make_rqvae_evaluator(MODEL, DATA, plain_weights(), seed=0), codebooks)) == 2


def test_an_idle_term_is_named_once_and_not_before_a_step(spoken):
    state, _ = start()
    weights = plain_weights(hierarchical_class=1e-12)
    evaluate = make_rqvae_evaluator(MODEL, DATA, weights, seed=0)
    found = []
    for step in (0, 3, 3):
        evaluate(state.replace(step=jnp.int32(step)))
        found.append(sum("the term hierarchical_class is idle" in line for line in spoken))
    assert found == [0, 1, 1]


@pytest.mark.parametrize(
    ("codes", "usage", "alarm"),
    [
        (8, [1, 1, 1, 9], False),
        (8, [1, 1, 9], True),  # below half of the codes
        (80, [1] * 79 + [1], False),
        (80, [1] * 79 + [10**6], True),  # all in use, and a perplexity below a tenth of them
    ],
)
def test_alarm_below_half_of_the_codes_or_a_tenth_of_the_perplexity(spoken, codes, usage, alarm):
    model = RQVAE(plain_rqvae(levels=1, codebook_size=codes, category_levels=0), 5)
    figures = {
        "perplexity/level_1": float(np.exp(entropy(usage))),
        "dead_codes/level_1": float(codes - len(usage)),
    }
    evaluation._warn(figures, model, 10**6, set())
    assert bool(spoken) == alarm


def test_the_alarm_asks_for_no_more_codes_than_documents(spoken):
    model = RQVAE(plain_rqvae(levels=1, codebook_size=256, category_levels=0), 5)
    figures = {"perplexity/level_1": 20.0, "dead_codes/level_1": 236.0}
    evaluation._warn(figures, model, 40, set())  # 20 of 40 possible ones
    assert spoken == []
    evaluation._warn(figures, model, 41, set())
    assert len(spoken) == 1


def dead_codes(codes):
    """(level, code) of those that no document has."""
    return [(i, k) for i in range(L) for k in range(K) if k not in set(codes[:, i])]


def leaves(tree):
    return {jax.tree_util.keystr(p): np.asarray(a) for p, a in jax.tree.leaves_with_path(tree)}


@pytest.mark.parametrize("clipped", [0.0, 1.0])
def test_dead_codes_become_residuals_and_lose_their_moments(clipped):
    training = TrainingConfig(max_gradient_norm=clipped)
    state, optimizer = start(training=training)
    latents, codes, lefts = by_hand(state)
    dead = dead_codes(codes)
    assert dead == [(0, 5), (0, 6), (0, 7)]
    old, new = leaves(state), leaves(reseed(state, optimizer, latents, codes, seed=0))
    assert old.keys() == new.keys()
    moved, moments = 0, 0
    for name in old:
        assert new[name].dtype == old[name].dtype
        if "codebooks" not in name:
            np.testing.assert_array_equal(new[name], old[name], err_msg=name)
            continue
        for level, code in np.ndindex(L, K):
            mine, before = new[name][level, code], old[name][level, code]
            if (level, code) not in dead:
                np.testing.assert_array_equal(mine, before)
            elif name.startswith(".params"):
                moved += 1
                # r^l of one document, whose error is not zero.
                gap = np.abs(lefts[level] - mine).max(axis=1)
                assert gap.min() < 1e-5
                assert np.linalg.norm(lefts[level + 1][gap.argmin()]) > 1e-3
            else:
                moments += 1
                np.testing.assert_array_equal(mine, 0)
    assert (moved, moments) == (len(dead), 2 * len(dead))  # Adam has two moments
    chosen = [tuple(new[".params['quantizer']['codebooks']"][0, k]) for k in (5, 6, 7)]
    assert len(set(chosen)) == 3  # three documents, and not one for all


def test_adafactor_s_moments_keep_their_shape():
    state, optimizer = start(training=TrainingConfig(optimizer="adafactor"))
    latents, codes, _ = by_hand(state)
    new = reseed(state, optimizer, latents, codes, seed=0)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    moments = {name: a for name, a in leaves(new).items() if ".v['quantizer']" in name}
    (second,) = moments.values()
    for level, code in np.ndindex(L, K):
        assert bool(second[level, code].any()) == ((level, code) not in dead_codes(codes))


def test_documents_are_drawn_by_their_quantisation_error():
    """One dead code; documents at distances 0, 1, 2 and 3 of the only live one."""
    latents = np.zeros((4, Z), np.float32)
    latents[:, 0] = [0, 1, 2, 3]
    codebooks = np.zeros((1, 2, Z), np.float32)
    codebooks[0, 1] = 50
    params = {"quantizer": {"codebooks": codebooks}}
    optimizer = optax.sgd(0.1)
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    codes = np.zeros((4, 1), np.int32)
    counts = np.zeros(4)
    for step in range(300):
        new = reseed(state.replace(step=np.int32(step)), optimizer, latents, codes, seed=0)
        counts[int(new.params["quantizer"]["codebooks"][0, 1, 0])] += 1
    assert counts[0] == 0  # it is where its code is
    assert chisquare(counts[1:], 300 * np.array([1, 4, 9]) / 14).pvalue > 0.01


def test_more_dead_codes_than_documents_with_an_error():
    """Five dead codes and three documents, each of which gets one; two codes stay."""
    latents = np.zeros((4, Z), np.float32)
    latents[1:, 0] = [1, 2, 30]  # with replacement, the last would come up again and again
    codebooks = np.full((1, 6, Z), 50, np.float32)
    codebooks[0, 0] = 0
    params = {"quantizer": {"codebooks": codebooks}}
    optimizer = optax.adam(0.1)
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    new = reseed(state, optimizer, latents, np.zeros((4, 1), np.int32), seed=0)
    codebook = np.asarray(new.params["quantizer"]["codebooks"])[0]
    np.testing.assert_array_equal(codebook[0], 0)
    assert sorted(codebook[1:4, 0]) == [1, 2, 30]
    np.testing.assert_array_equal(codebook[4:], 50)
    # All documents lie on their codes: nobody to move to.
    codes = np.array([[np.abs(codebook - one).sum(axis=1).argmin()] for one in latents])
    assert reseed(new, optimizer, latents, codes, seed=0) is new
    np.testing.assert_array_equal(new.params["quantizer"]["codebooks"][0], codebook)


def test_the_next_level_s_residuals_are_those_of_the_codes_as_they_were():
    """Level 1 is reseeded; the documents still have their old codes."""
    latents = np.eye(Z, dtype=np.float32)
    codebooks = np.full((2, 2, Z), 50, np.float32)
    codebooks[:, 0] = [[0.25] * Z, [0.5] * Z]
    params = {"quantizer": {"codebooks": codebooks}}
    optimizer = optax.sgd(0.1)
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    new = reseed(state, optimizer, latents, np.zeros((3, 2), np.int32), seed=0)
    first, second = np.asarray(new.params["quantizer"]["codebooks"])[:, 1]
    assert first.tolist() in latents.tolist()
    assert second.tolist() in (latents - 0.25).tolist()


def test_without_dead_codes_nothing_changes():
    state, optimizer = start()
    latents, _, _ = by_hand(state)
    codes = np.tile(np.arange(K)[:, None], (N // K, L))
    assert reseed(state, optimizer, latents, codes, seed=0) is state


def test_the_hook_reseeds_the_nearest_codes_of_the_corpus():
    state, optimizer = start()
    latents, codes, _ = by_hand(state)
    new = leaves(make_reseeding_hook(MODEL, optimizer, X, seed=4)(state))
    for name, expected in leaves(reseed(state, optimizer, latents, codes, seed=4)).items():
        np.testing.assert_allclose(new[name], expected, atol=1e-5, err_msg=name)
    moved = ".params['quantizer']['codebooks']"
    assert (new[moved] != leaves(state)[moved]).any(axis=2).nonzero()[1].tolist() == [5, 6, 7]


def test_a_reseeding_is_a_function_of_the_seed_and_the_step():
    state, optimizer = start()
    latents, codes, _ = by_hand(state)

    def codebooks(seed, step):
        new = reseed(state.replace(step=jnp.int32(step)), optimizer, latents, codes, seed)
        return np.asarray(new.params["quantizer"]["codebooks"])

    np.testing.assert_array_equal(codebooks(0, 3), codebooks(0, 3))
    assert (codebooks(0, 3) != codebooks(1, 3)).any()
    assert (codebooks(0, 3) != codebooks(0, 4)).any()


@pytest.mark.slow
def test_resumed_training_with_reseeding_is_bit_identical(tmp_path, spoken, monkeypatch):
    """Stopped after the evaluation of step 9, with a checkpoint of step 6."""
    training = TrainingConfig(
        batch_size=16, epochs=9, steps_per_dispatch=3, checkpoint_every=4, evaluate_every=3,
        best_metric="quantization_error/level_3", best_mode="min", learning_rate=0.01,
    )  # fmt: skip
    model = RQVAE(dataclasses.replace(CONFIG, dropout_rate=0.1), embedding_dim=5)
    optimizer = make_optimizer(training, 18)
    step = make_rqvae_step(model, optimizer, plain_weights(hierarchical_class=0.0), seed=0)
    params = start()[0].params

    def run(directory):
        evaluator = make_rqvae_evaluator(model, DATA, plain_weights(), seed=0)
        hook = make_reseeding_hook(model, optimizer, X, seed=0)
        state = TrainState(jnp.int32(0), jax.tree.map(jnp.copy, params), optimizer.init(params))
        sampler = EpochSampler(N, 16, seed=0)
        with Checkpoints(directory, training.best_metric, training.best_mode) as checkpoints:
            last = train(
                step, state, DATA, sampler, training, checkpoints, "test", evaluator,
                after_evaluation=hook,
            )  # fmt: skip
            return leaves(last), leaves(checkpoints.restore(last, "best")), checkpoints.best_step

    whole = run(tmp_path / "whole")
    before = np.asarray(params["quantizer"]["codebooks"])[0, 5:]
    after = whole[0][".params['quantizer']['codebooks']"][0, 5:]
    assert before.min() > 900  # far codes ...
    assert np.abs(after).max() < 50  # ... were moved

    original = EpochSampler.__call__

    def stopped(self, first, steps):
        if first == 9:
            raise ConnectionAbortedError
        return original(self, first, steps)

    monkeypatch.setattr(EpochSampler, "__call__", stopped)
    with pytest.raises(ConnectionAbortedError):
        run(tmp_path / "stopped")
    monkeypatch.setattr(EpochSampler, "__call__", original)
    with Checkpoints(tmp_path / "stopped") as checkpoints:
        assert checkpoints.latest_step == 6
    resumed = run(tmp_path / "stopped")
    assert resumed[2] == whole[2]
    for ours, theirs in zip(resumed[:2], whole[:2], strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
