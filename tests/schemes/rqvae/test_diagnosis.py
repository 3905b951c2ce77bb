"""Which terms act, against gradients of each term alone and SciPy's correlation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax import losses
from catid2_jax.models.rqvae import RQVAE
from catid2_jax.ops.kmeans import even_clusters
from catid2_jax.ops.letter import collaborative_loss, diversity_loss
from catid2_jax.schemes.rqvae.diagnosis import make_diagnosis, term_problems
from catid2_jax.schemes.rqvae.step import RQVAEData, forward
from tests.plain import plain_rqvae, plain_weights

CONFIG = plain_rqvae(
    levels=3, codebook_size=6, category_levels=2, latent_dim=4, hidden_dims=(12,), linear_path="pca"
)
GENERATOR = np.random.default_rng(0)
X, QUERIES = GENERATOR.normal(size=(2, 30, 8)).astype(np.float32)
CATEGORIES = np.array([[i % 2, i % 4] for i in range(30)], np.int32)
SEARCHED = np.arange(30) % 3 > 0
MODEL = RQVAE(CONFIG, embedding_dim=8)
WEIGHTS = plain_weights(
    reconstruction=0.5,
    hierarchical_class=0.2,
    cluster_scale=0.7,
    query_alignment=0.4,
    collaborative=0.6,
    diversity=0.8,
    code_groups=2,
)
VECTORS = GENERATOR.normal(size=(30, 4)).astype(np.float32)
DATA = RQVAEData(X, CATEGORIES, QUERIES, SEARCHED, VECTORS, ~SEARCHED)


@pytest.fixture(scope="module")
def params():
    params = MODEL.init(jax.random.key(0), jnp.asarray(X))["params"]
    codebooks = GENERATOR.normal(size=(3, 6, 4)).astype(np.float32)
    noisy = jax.tree.map(
        lambda leaf: leaf + GENERATOR.normal(0, 0.1, leaf.shape).astype(np.float32), params
    )
    return {**noisy, "quantizer": {"codebooks": jnp.asarray(codebooks)}}


@pytest.fixture(scope="module")
def figures(params):
    return make_diagnosis(MODEL, WEIGHTS, DATA, seed=0)(params)


def output_of(params):
    return MODEL.apply({"params": params}, jnp.asarray(X))


def weighted_terms(params):
    """Each term by its function in `losses`, times its weight."""
    output = output_of(params)
    q = output.quantization
    queries = MODEL.apply({"params": params}, jnp.asarray(QUERIES), method=RQVAE.encode)
    levels = [q.log_probabilities[:, level] for level in range(3)]
    hcc = [
        losses.hierarchical_class_constraint_loss(
            q.residuals[:, level], jnp.asarray(CATEGORIES), level, 0.1
        )
        for level in range(2)
    ]
    return {
        "residual_quantization": losses.residual_quantization_loss(q.residuals, q.selected, 0.25),
        "reconstruction": 0.5 * losses.reconstruction_loss(jnp.asarray(X), output.reconstructions),
        "dispersion": 0.1 * losses.dispersion_loss(output.reconstructions, jnp.asarray(X), 0.1),
        "hierarchical_class": 0.2 * sum(hcc),
        "cluster_scale": 0.7 * sum(map(losses.cluster_scale_constraint_loss, levels)),
        "query_alignment": 0.4
        * losses.query_alignment_loss(queries, q.quantized, jnp.asarray(SEARCHED), 0.1),
        "collaborative": 0.6
        * collaborative_loss(q.quantized, jnp.asarray(VECTORS), jnp.asarray(~SEARCHED), 0.1),
    }


def test_the_diversity_of_a_step_moves_the_code_vectors_alone(params):
    def diversity(params):
        batch = jax.tree.map(jnp.asarray, DATA)
        _, terms = forward(MODEL, params, batch, WEIGHTS, jax.random.key(0), jax.random.key(1))
        return terms["diversity"]

    value, gradient = jax.jit(jax.value_and_grad(diversity))(params)
    codebooks, codes = params["quantizer"]["codebooks"], output_of(params).quantization.codes
    levels = [
        diversity_loss(codebooks[level], codes[:, level], even_clusters(codebooks[level], 2))
        for level in range(3)
    ]
    np.testing.assert_allclose(value, np.mean(levels), rtol=1e-5)
    moved = {part for part, g in gradient.items() if any(map(np.any, jax.tree.leaves(g)))}
    assert moved == {"quantizer"}


@pytest.mark.slow
def test_gradient_norms_are_those_of_each_weighted_term_alone(params, figures):
    names = {name.removeprefix("gradient_norm/") for name in figures if "gradient" in name}
    assert names == weighted_terms(params).keys()
    for name in names:
        gradient = jax.grad(lambda p, name=name: weighted_terms(p)[name])(params)
        parts = jax.tree.leaves([gradient["encoder"], gradient["encoder_path"]])
        expected = np.sqrt(sum(np.sum(np.square(part, dtype=np.float64)) for part in parts))
        np.testing.assert_allclose(figures[f"gradient_norm/{name}"], expected, rtol=1e-4)


def test_usage_correlation_is_that_of_the_codes_in_use(params, figures):
    quantization = output_of(params).quantization
    for level in range(3):
        counts = np.bincount(np.asarray(quantization.codes)[:, level], minlength=6)
        soft = np.exp(np.asarray(quantization.log_probabilities)[:, level]).mean(axis=0)
        used = counts > 0
        expected = np.corrcoef(np.log(soft[used]), np.log(counts[used]))[0, 1]
        found = figures[f"usage_correlation/level_{level + 1}"]
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_what_is_idle_and_what_rules():
    def problems(**norms):
        return term_problems({f"gradient_norm/{name}": norm for name, norm in norms.items()})

    assert problems(a=1.0, b=0.03, c=0.5) == {}
    assert problems(a=1.0, b=1e-3, c=0.5) == {
        "b": "the term b is idle: the norm of its gradient is 0.001, and another's 1. Raise its "
        "weight, or set it to 0"
    }
    found = problems(a=100.0, b=3.0, c=1.5)
    assert found["a"].startswith("the term a rules: the norm of its gradient is 1e+02, and those")
    assert found["c"].startswith("the term c is idle")
    assert problems(a=70.0, b=3.0, c=2.0) == {}  # less than 20 times the sum of the others
    assert problems(a=1.0) == {}
    assert term_problems({"collision_rate": 0.5}) == {}
