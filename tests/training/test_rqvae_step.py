import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from catid2_jax.losses import TIGER, LossWeights
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig
from catid2_jax.training.loop import TrainState
from catid2_jax.training.rqvae_step import (
    RQVAEData,
    in_batches,
    initialize_codebooks,
    make_rqvae_step,
)
from tests.reference import losses as reference

CONFIG = RQVAEConfig(levels=3, codes=6, category_levels=2, latent_dim=4, hidden_dims=(12,))
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(10, 8)).astype(np.float32)
CATEGORIES = np.array([[i % 2, i % 4] for i in range(10)], np.int32)
MODEL = RQVAE(CONFIG, embedding_dim=8)


@pytest.fixture(scope="module")
def params():
    params = MODEL.init(jax.random.key(0), jnp.asarray(X))["params"]
    codebooks = GENERATOR.normal(size=(3, 6, 4)).astype(np.float32)
    return {**params, "quantizer": {"codebooks": jnp.asarray(codebooks)}}


def run_step(params, weights, rows):
    optimizer = optax.sgd(0.1)
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    step = jax.jit(make_rqvae_step(MODEL, optimizer, weights))
    return step(state, RQVAEData(X, CATEGORIES).batch(rows))


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
    [LossWeights(), TIGER, LossWeights(0.5, 0.3, 0.2, 0.7, 0.4, 0.5, "global")],
    ids=["CAT-ID2", "TIGER", "all terms"],
)
def test_loss_is_equation_8_on_the_batch(params, weights):
    rows = np.array([7, 1, 2, 9, 4, 0])
    _, metrics = run_step(params, weights, rows)
    np.testing.assert_allclose(metrics["loss"], expected_loss(params, weights, rows), rtol=1e-4)


def test_step_descends_along_the_gradient_of_every_parameter(params):
    weights = LossWeights(reconstruction=0.5)
    rows = np.arange(10)
    state, metrics = run_step(params, weights, rows)
    leaves = zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True)
    for new, old in leaves:
        assert np.abs(new - old).max() > 0
    assert run_step(state.params, weights, rows)[1]["loss"] < metrics["loss"]


def test_perplexity_of_the_batch_by_hand(params):
    rows = np.arange(10)
    _, metrics = run_step(params, LossWeights(), rows)
    codes = np.asarray(MODEL.apply({"params": params}, jnp.asarray(X)).quantization.codes)
    for level in range(3):
        share = np.bincount(codes[:, level]) / 10
        entropy = -sum(p * np.log(p) for p in share if p)
        np.testing.assert_allclose(
            metrics[f"perplexity/level_{level + 1}"], np.exp(entropy), rtol=1e-5
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
