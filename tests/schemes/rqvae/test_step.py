import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import entropy

from catid2_jax import losses
from catid2_jax.losses import TIGER, docid_loss
from catid2_jax.models.rqvae import RQVAE
from catid2_jax.schemes.rqvae.step import (
    RQVAEData,
    docid_loss_terms,
    in_batches,
    initialize_codebooks,
    make_rqvae_step,
)
from catid2_jax.training.loop import TrainState
from tests.plain import plain_rqvae, plain_weights
from tests.reference import losses as reference

CONFIG = plain_rqvae(levels=3, codebook_size=6, category_levels=2, latent_dim=4, hidden_dims=(12,))
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(10, 8)).astype(np.float32)
CATEGORIES = np.array([[i % 2, i % 4] for i in range(10)], np.int32)
MODEL = RQVAE(CONFIG, embedding_dim=8)


@pytest.fixture(scope="module")
def params():
    params = MODEL.init(jax.random.key(0), jnp.asarray(X))["params"]
    codebooks = GENERATOR.normal(size=(3, 6, 4)).astype(np.float32)
    return {**params, "quantizer": {"codebooks": jnp.asarray(codebooks)}}


OPTIMIZER = optax.sgd(0.1)
ALL_TERMS = plain_weights(
    reconstruction=0.5,
    dispersion=0.3,
    hierarchical_class=0.2,
    cluster_scale=0.7,
    commitment=0.4,
    temperature=0.5,
)


@functools.cache
def compiled_step(weights):
    return jax.jit(make_rqvae_step(MODEL, OPTIMIZER, weights))


def run_step(params, weights, rows):
    state = TrainState(jnp.int32(0), params, OPTIMIZER.init(params))
    return compiled_step(weights)(state, RQVAEData(X, CATEGORIES).batch(rows))


def expected_loss(params, weights, rows):
    """Eq. 8 on the model's intermediates, term by term from the reference."""
    output = MODEL.apply({"params": params}, jnp.asarray(X[rows]))
    q = output.quantization
    tau, categories = weights.temperature, CATEGORIES[rows]
    residuals, selected = np.asarray(q.residuals), np.asarray(q.selected)
    loss = reference.residual_quantization(residuals, selected, weights.commitment)
    reconstructions = np.asarray(output.reconstructions)
    loss += weights.reconstruction * reference.reconstruction(X[rows], reconstructions)
    loss += weights.dispersion * reference.dispersion(reconstructions, X[rows], tau)
    for level in range(2):
        loss += weights.hierarchical_class * reference.hierarchical_class(
            residuals[:, level], categories, level, tau, weights.negatives
        )
    for level in range(3):
        probabilities = np.exp(np.asarray(q.log_probabilities[:, level], np.float64))
        loss += weights.cluster_scale * reference.cluster_scale(probabilities)
    return loss


@pytest.mark.parametrize(
    "weights",
    [plain_weights(), TIGER, dataclasses.replace(ALL_TERMS, negatives="global")],
    ids=["CAT-ID2", "TIGER", "all terms"],
)
def test_loss_is_equation_8_on_the_batch(params, weights):
    rows = np.array([7, 1, 2, 9, 4, 0])
    _, metrics = run_step(params, weights, rows)
    np.testing.assert_allclose(metrics["loss"], expected_loss(params, weights, rows), rtol=1e-4)


def test_step_descends_along_the_gradient_of_every_parameter(params):
    weights = plain_weights(reconstruction=0.5)
    rows = np.arange(10)
    state, metrics = run_step(params, weights, rows)
    leaves = zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True)
    for new, old in leaves:
        assert np.abs(new - old).max() > 0
    assert run_step(state.params, weights, rows)[1]["loss"] < metrics["loss"]


def test_perplexity_of_the_batch_by_hand(params):
    rows = np.arange(10)
    _, metrics = run_step(params, plain_weights(reconstruction=0.5), rows)
    quantization = MODEL.apply({"params": params}, jnp.asarray(X)).quantization
    codes = np.asarray(quantization.codes)
    for level in range(3):
        share = np.bincount(codes[:, level]) / 10
        nats = -sum(p * np.log(p) for p in share if p)
        np.testing.assert_allclose(
            metrics[f"batch_perplexity/level_{level + 1}"], np.exp(nats), rtol=1e-5
        )
        p = np.exp(quantization.log_probabilities[:, level]).mean(axis=0)
        np.testing.assert_allclose(
            metrics[f"soft_perplexity/level_{level + 1}"], np.exp(entropy(p)), rtol=1e-5
        )


def test_k_means_codebooks_quantise_better_than_random_ones(params):
    latents = np.asarray(MODEL.apply({"params": params}, jnp.asarray(X), method=RQVAE.encode))
    fitted = initialize_codebooks(params, jnp.asarray(latents), jax.random.key(0))

    def error(params):
        q = MODEL.apply({"params": params}, jnp.asarray(X)).quantization
        return ((latents - np.asarray(q.selected).sum(axis=1)) ** 2).sum()

    # 6 centroids for 10 points, then 6 for what is left, twice: next to nothing remains.
    assert error(fitted) < 0.05 * error(params)
    np.testing.assert_array_equal(
        fitted["encoder"]["Dense_0"]["kernel"], params["encoder"]["Dense_0"]["kernel"]
    )


def test_in_batches_is_the_function_of_all_rows():
    rows = GENERATOR.normal(size=(11, 3)).astype(np.float32)
    result = in_batches(lambda x: x.sum(axis=1) * 2, rows, batch_size=4)
    np.testing.assert_allclose(result, rows.sum(axis=1) * 2, rtol=1e-6)


@functools.partial(jax.jit, static_argnames=("weights", "config"))
def loss_and_gradients(params, x, categories, weights, config=CONFIG):
    """What a step descends along."""

    def loss(params):
        output = RQVAE(config, 8).apply({"params": params}, x)
        terms = docid_loss_terms(output, RQVAEData(x, categories), None, weights, jax.random.key(0))
        return docid_loss(weights, **terms)

    return jax.value_and_grad(loss)(params)


@functools.partial(jax.jit, static_argnames=("w", "config"))
def equation_8(params, x, positives, negatives, w, config=CONFIG):
    """Eq. 8 as the paper has it: all pairs, plain exponentials, gradients by JAX alone."""
    stop = jax.lax.stop_gradient

    def mlp(layers, x):
        x = jax.nn.relu(x @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"][None])
        return x @ layers["Dense_1"]["kernel"] + layers["Dense_1"]["bias"][None]

    def unit(x):
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    def loss(params):
        latents = mlp(params["encoder"], x)
        residual, quantized = latents, 0.0
        rq = hcc = csc = 0.0
        for level, codebook in enumerate(params["quantizer"]["codebooks"]):
            squares = jnp.sum((residual[:, None] - codebook[None]) ** 2, axis=2)
            distances = squares if config.code_distance == "squared" else jnp.sqrt(squares)
            p = jax.nn.softmax(-distances / config.code_temperature, axis=1)
            chosen = codebook[jnp.argmin(distances, axis=1)]
            rq += jnp.sum((stop(residual) - chosen) ** 2)
            rq += w.commitment * jnp.sum((residual - stop(chosen)) ** 2)
            mean, uniform = jnp.mean(p, axis=0), 1 / config.codebook_size
            csc += jnp.sum(mean * jnp.log(mean / uniform))
            csc += jnp.sum(uniform * jnp.log(uniform / mean))
            if w.hierarchical_class and level < config.category_levels:
                pos, neg = positives[level], negatives[level]
                similarity = jnp.exp(unit(residual) @ unit(residual).T / w.temperature)
                rest = jnp.sum(similarity * neg, axis=1, keepdims=True)
                per_pair = -jnp.log(similarity / (similarity + rest)) * pos
                per_anchor = jnp.sum(per_pair, axis=1) / jnp.maximum(jnp.sum(pos, axis=1), 1)
                anchors = jnp.any(pos, axis=1) & jnp.any(neg, axis=1)
                hcc += jnp.sum(per_anchor * anchors) / jnp.maximum(jnp.sum(anchors), 1)
            quantized += stop(chosen)
            if config.residual_gradient == "straight_through":
                # As in public code: minus r + sg[e - r].
                residual = residual - (residual + stop(chosen - residual))
            else:
                residual = residual - stop(chosen)
        rq /= len(x) if w.reduction == "sum" else latents.size * config.levels
        d_hat = mlp(params["decoder"], latents + stop(quantized - latents))
        scores = jnp.exp(unit(d_hat) @ unit(x).T / w.temperature)
        dispersion = -jnp.mean(jnp.log(jnp.diag(scores) / jnp.sum(scores, axis=1)))
        return (
            rq
            + w.reconstruction * jnp.mean((x - d_hat) ** 2)
            + w.dispersion * dispersion
            + w.hierarchical_class * hcc
            + w.cluster_scale * csc
        )

    return jax.value_and_grad(loss)(params)


def pairs(categories, negatives="hard"):
    """Positives and negatives of section 3.1 as masks [H, B, B]."""
    count, levels = categories.shape
    positive, negative = np.zeros((2, levels, count, count), bool)
    for level, a, b in np.ndindex(levels, count, count):
        mine, theirs = categories[a], categories[b]
        if a == b or mine[level] < 0 or theirs[level] < 0:
            continue
        positive[level, a, b] = mine[level] == theirs[level]
        near = level == 0 or negatives == "global" or mine[level - 1] == theirs[level - 1]
        negative[level, a, b] = mine[level] != theirs[level] and near
    return jnp.asarray(positive), jnp.asarray(negative)


def agree(ours, theirs):
    np.testing.assert_allclose(ours[0], theirs[0], rtol=2e-5)
    leaves = zip(
        jax.tree.leaves_with_path(ours[1]), jax.tree.leaves_with_path(theirs[1]), strict=True
    )
    for (path, a), (_, b) in leaves:
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6, err_msg=jax.tree_util.keystr(path))


def all_finite(result):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))


SIX = np.arange(6)
EDGES = {
    "ordinary": [[0, 0], [0, 0], [0, 1], [1, 2], [1, 2], [0, 1]],
    "no positives": np.stack([SIX, SIX], axis=1),
    "a single category": np.zeros((6, 2)),
    "no negatives under one parent": np.stack([SIX % 2, SIX % 2], axis=1),
    "paths of unequal length": [[0, 0], [0, -1], [1, -1], [1, 1], [0, 0], [0, 2]],
    "no categories at all": np.full((6, 2), -1),
}


@pytest.mark.parametrize("same", [False, True], ids=["distinct", "identical"])
@pytest.mark.parametrize("name", EDGES)
def test_edge_batches_have_the_loss_and_gradients_of_equation_8(params, name, same):
    categories = np.array(EDGES[name], np.int32)
    x = jnp.asarray(np.repeat(X[:1], 6, axis=0) if same else X[:6])
    ours = loss_and_gradients(params, x, jnp.asarray(categories), ALL_TERMS)
    assert all_finite(ours)
    agree(ours, equation_8(params, x, *pairs(categories), ALL_TERMS))


def test_a_batch_of_one_document(params):
    x, categories = jnp.asarray(X[:1]), np.zeros((1, 2), np.int32)
    ours = loss_and_gradients(params, x, jnp.asarray(categories), ALL_TERMS)
    assert all_finite(ours)
    agree(ours, equation_8(params, x, *pairs(categories), ALL_TERMS))


@pytest.mark.parametrize("where", ["embeddings", "codes", "reconstructions"])
def test_vectors_without_a_direction_and_distances_of_zero_stay_finite(params, where):
    """Where the cosine or the square root has no gradient."""
    x, changed = jnp.asarray(X[:6]), dict(params)
    if where == "embeddings":  # the encoder has no biases yet: z = 0 as well
        x = jnp.zeros_like(x)
    elif where == "codes":  # r^1 = 0 for all
        latents = MODEL.apply({"params": params}, x, method=RQVAE.encode)
        codebooks = params["quantizer"]["codebooks"].at[0].set(latents)
        changed["quantizer"] = {"codebooks": codebooks}
    else:
        changed["decoder"] = jax.tree.map(jnp.zeros_like, params["decoder"])
    categories = jnp.asarray(EDGES["ordinary"], jnp.int32)
    assert all_finite(loss_and_gradients(changed, x, categories, ALL_TERMS))


WITHOUT_HCC = dataclasses.replace(ALL_TERMS, hierarchical_class=0.0)


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ({}, {}),
        ({}, {"reduction": "sum"}),
        ({}, {"commitment": 2.0, "temperature": 0.07}),
        ({"code_distance": "squared"}, {}),
        ({"code_temperature": 0.3}, {}),
        ({"residual_gradient": "straight_through"}, {}),
    ],
    ids=str,
)
def test_every_option_is_that_of_equation_8_written_out(params, model, weights):
    config = dataclasses.replace(CONFIG, **model)
    weights = dataclasses.replace(WITHOUT_HCC, **weights)
    x, categories = jnp.asarray(X[:6]), np.array(EDGES["ordinary"], np.int32)
    ours = loss_and_gradients(params, x, jnp.asarray(categories), weights, config)
    agree(ours, equation_8(params, x, *pairs(categories), weights, config))
    if model or weights != WITHOUT_HCC:
        plain = loss_and_gradients(params, x, jnp.asarray(categories), WITHOUT_HCC)
        gap = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), ours, plain)
        assert max(jax.tree.leaves(gap)) > 1e-4  # the option is not without effect


def test_a_term_of_weight_zero_is_not_computed(params, monkeypatch):
    def computed(weights):
        calls = []
        terms = {name: lambda *_, name=name: calls.append(name) for name in losses.TERMS}
        monkeypatch.setattr(losses, "TERMS", terms)
        output = MODEL.apply({"params": params}, jnp.asarray(X))
        batch = RQVAEData(jnp.asarray(X), jnp.asarray(CATEGORIES))
        arguments = batch, None, weights, jax.random.key(0)
        found = docid_loss_terms(output, *arguments)
        assert list(found) == ["residual_quantization", *calls]
        return calls

    assert computed(plain_weights()) == ["dispersion", "hierarchical_class", "cluster_scale"]
    assert computed(TIGER) == ["reconstruction"]
    assert computed(dataclasses.replace(TIGER, reconstruction=0.0)) == []


def test_global_negatives_are_those_of_other_parents_too(params):
    weights = dataclasses.replace(ALL_TERMS, negatives="global", temperature=0.2)
    x, categories = jnp.asarray(X[:6]), np.array(EDGES["ordinary"], np.int32)
    ours = loss_and_gradients(params, x, jnp.asarray(categories), weights)
    agree(ours, equation_8(params, x, *pairs(categories, "global"), weights))
    hard = equation_8(params, x, *pairs(categories, "hard"), weights)
    assert abs(float(ours[0] - hard[0])) > 1e-3


def test_dtype_bfloat16_is_near_float32_with_float32_parameters_and_gradients(params):
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    x, categories = jnp.asarray(X[:6]), jnp.asarray(EDGES["ordinary"], jnp.int32)
    wide = loss_and_gradients(params, x, categories, WITHOUT_HCC)
    narrow = loss_and_gradients(params, x, categories, WITHOUT_HCC, config)
    # Eight bits of mantissa: 0.4 % per rounding.
    np.testing.assert_allclose(narrow[0], wide[0], rtol=0.02)
    assert narrow[0] != wide[0]
    for a, b in zip(jax.tree.leaves(narrow[1]), jax.tree.leaves(wide[1]), strict=True):
        assert a.dtype == jnp.float32
        assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(b)
    fresh = RQVAE(config, 8).init(jax.random.key(0), x)["params"]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(fresh)} == {"float32"}


def test_each_step_draws_its_own_positives_and_dropout():
    params = MODEL.init(jax.random.key(0), jnp.asarray(X))["params"]

    def terms(name, weights, seed, rate=0.0):
        """A term of the loss at steps 0, 0 again, and 1."""
        model = RQVAE(dataclasses.replace(CONFIG, dropout_rate=rate), 8)
        step = jax.jit(make_rqvae_step(model, OPTIMIZER, weights, seed))
        state = TrainState(jnp.int32(0), params, OPTIMIZER.init(params))
        states = [state, state, state.replace(step=jnp.int32(1))]
        return [float(step(s, RQVAEData(X, CATEGORIES))[1][name]) for s in states]

    drawn = plain_weights(
        dispersion=0.0, hierarchical_class=1.0, cluster_scale=0.0, positives="one"
    )
    for name, weights, rate in (
        ("hierarchical_class", drawn, 0.0),
        ("reconstruction", TIGER, 0.5),
    ):
        first, again, later = terms(name, weights, 0, rate)
        assert first == again != later
        assert terms(name, weights, 1, rate)[0] != first
    first, _, later = terms("reconstruction", TIGER, 0)
    assert first == later  # without dropout nothing is drawn
