import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest

from catid2_jax.models.residual_quantizer import ResidualQuantizer, quantize
from tests.reference import losses as reference

B, L, K, Z = 6, 3, 5, 4


@pytest.fixture
def inputs():
    generator = np.random.default_rng(0)
    return (
        generator.normal(size=(B, Z)).astype(np.float32),
        generator.normal(size=(L, K, Z)).astype(np.float32),
    )


def test_agrees_with_section_3_written_out(inputs):
    z, codebooks = inputs
    output = quantize(jnp.asarray(z), jnp.asarray(codebooks), temperature=0.5)
    residual = z.astype(np.float64)
    for level, codebook in enumerate(codebooks):
        p = reference.code_probabilities(residual, codebook, 0.5)
        np.testing.assert_allclose(output.residuals[:, level], residual, atol=1e-5)
        np.testing.assert_allclose(np.exp(output.log_probabilities[:, level]), p, rtol=1e-4)
        np.testing.assert_array_equal(output.codes[:, level], p.argmax(axis=1))
        np.testing.assert_array_equal(output.selected[:, level], codebook[p.argmax(axis=1)])
        residual = residual - codebook[p.argmax(axis=1)]
    total = sum(codebooks[i][output.codes[:, i]] for i in range(L))
    np.testing.assert_allclose(output.quantized, total, atol=1e-5)


def test_shrinkage_is_hiergr_with_scaled_codes(inputs):
    """r^{l+1} = alpha_l r^l - e_l, beside codes that are scaled by the alphas up to their level."""
    z, codebooks = inputs
    alphas, scale = (1.3, 1.2), 1.0
    output = quantize(jnp.asarray(z), jnp.asarray(codebooks), shrinkage=alphas)
    residual, total = z.astype(np.float64), np.zeros((B, Z))
    plain = quantize(jnp.asarray(z), jnp.asarray(codebooks))
    for level, codebook in enumerate(codebooks):
        alpha = (*alphas, 1.0)[level]
        scaled = codebook * scale * alpha
        codes = np.linalg.norm(residual[:, None] - scaled[None], axis=-1).argmin(axis=1)
        np.testing.assert_array_equal(output.codes[:, level], codes)
        residual = alpha * residual - scaled[codes]
        total += codebook[codes]
        scale *= alpha
    # What is left over after the last level, in the unit of z.
    np.testing.assert_allclose(output.quantized, total, atol=1e-5)
    np.testing.assert_allclose(z - total, residual / scale, atol=1e-5)
    assert (plain.codes != output.codes).any()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_temperature_in_units_of_the_level_follows_the_residuals(inputs, scale):
    z, codebooks = inputs
    output = quantize(
        jnp.asarray(scale * z), jnp.asarray(scale * codebooks), 0.3, temperature_unit="level"
    )
    residual = z.astype(np.float64)
    for level, codebook in enumerate(codebooks):
        distances = np.linalg.norm(residual[:, None] - codebook[None], axis=-1)
        unit = distances.std(axis=1).mean()
        p = reference.code_probabilities(residual, codebook, 0.3 * unit)
        np.testing.assert_allclose(np.exp(output.log_probabilities[:, level]), p, rtol=1e-3)
        residual = residual - codebook[p.argmax(axis=1)]


def test_codes_that_coincide_have_one_probability(inputs):
    z, codebooks = jnp.asarray(inputs[0]), jnp.zeros((L, K, Z))
    output = quantize(z, codebooks, 0.3, temperature_unit="level")
    np.testing.assert_allclose(output.log_probabilities, -np.log(K), rtol=1e-3)


def test_gradient_of_the_quantised_latent_is_that_of_the_latent(inputs):
    z, codebooks = map(jnp.asarray, inputs)
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(B, Z)), jnp.float32)
    gradient = jax.grad(lambda z: jnp.sum(weight * quantize(z, codebooks).quantized))(z)
    np.testing.assert_allclose(gradient, weight, rtol=1e-6)


@pytest.mark.parametrize(
    ("residual_gradient", "reaches"), [("stop_codes", True), ("straight_through", False)]
)
def test_whether_a_later_residual_reaches_the_encoder(inputs, residual_gradient, reaches):
    z, codebooks = map(jnp.asarray, inputs)

    def last_residual(z):
        output = quantize(z, codebooks, residual_gradient=residual_gradient)
        return jnp.sum(output.residuals[:, -1])

    gradient = jax.grad(last_residual)(z)
    np.testing.assert_array_equal(gradient, np.full((B, Z), float(reaches)))


def test_module_holds_one_codebook_per_level(inputs):
    module = ResidualQuantizer(levels=L, codebook_size=K)
    variables = module.init(jax.random.key(0), jnp.asarray(inputs[0]))
    assert jax.tree.map(jnp.shape, variables) == {"params": {"codebooks": (L, K, Z)}}
    np.testing.assert_array_equal(
        module.apply(variables, jnp.asarray(inputs[0])).codes,
        quantize(jnp.asarray(inputs[0]), variables["params"]["codebooks"]).codes,
    )


@pytest.mark.parametrize(("code_distance", "power"), [("euclidean", 1), ("squared", 2)])
def test_code_distance_is_that_of_the_probabilities(inputs, code_distance, power):
    z, codebooks = inputs
    output = quantize(
        jnp.asarray(z), jnp.asarray(codebooks), temperature=2.0, code_distance=code_distance
    )
    for level in range(L):
        residual = np.asarray(output.residuals[:, level], np.float64)
        p = reference.code_probabilities(residual, codebooks[level], 2.0, power)
        np.testing.assert_allclose(np.exp(output.log_probabilities[:, level]), p, rtol=1e-4)
        np.testing.assert_array_equal(output.codes[:, level], p.argmax(axis=1))


@pytest.mark.parametrize("code_distance", ["euclidean", "squared"])
def test_sinkhorn_codes_are_the_largest_of_a_transport_plan_on_the_last_level_only(code_distance):
    generator = np.random.default_rng(2)
    # Clustered, so that the nearest codes are uneven.
    z = (0.3 * generator.normal(size=(20, Z)) + 1).astype(np.float32)
    codebooks = generator.normal(size=(L, K, Z)).astype(np.float32)
    codebooks[2] *= 0.1
    epsilon = 0.003
    plain = quantize(jnp.asarray(z), jnp.asarray(codebooks), code_distance=code_distance)
    output = quantize(
        jnp.asarray(z),
        jnp.asarray(codebooks),
        code_distance=code_distance,
        sinkhorn_epsilon=epsilon,
    )
    np.testing.assert_array_equal(output.codes[:, :2], plain.codes[:, :2])
    np.testing.assert_array_equal(output.residuals, plain.residuals)
    np.testing.assert_array_equal(output.log_probabilities, plain.log_probabilities)

    residual = np.asarray(output.residuals[:, 2], np.float64)
    cost = ot.dist(residual, codebooks[2].astype(np.float64))  # squared
    cost = cost if code_distance == "squared" else np.sqrt(cost)
    # POT ends with the rows where ours ends with the columns: hence the other way round.
    plan = ot.bregman.sinkhorn_log(
        np.full(K, 20 / K), np.ones(20), (cost / cost.mean()).T, epsilon,
        numItermax=50, stopThr=0, warn=False,
    ).T  # fmt: skip
    second, first = np.sort(plan, axis=1)[:, -2:].T
    assert (first > 1.05 * second).all()  # no ties
    codes = np.asarray(output.codes[:, 2])
    np.testing.assert_array_equal(codes, plan.argmax(axis=1))
    np.testing.assert_array_equal(output.selected[:, 2], codebooks[2][codes])
    usage, uneven = (np.bincount(c, minlength=K) for c in (codes, np.asarray(plain.codes[:, 2])))
    assert usage.max() <= 5 < uneven.max()


def test_sinkhorn_is_for_training_only(inputs):
    z = jnp.asarray(inputs[0])
    module = ResidualQuantizer(levels=L, codebook_size=K, sinkhorn_epsilon=0.05)
    variables = {"params": {"codebooks": jnp.asarray(inputs[1])}}
    training = module.apply(variables, z, training=True)
    expected = quantize(z, variables["params"]["codebooks"], sinkhorn_epsilon=0.05)
    np.testing.assert_array_equal(training.codes, expected.codes)
    evaluation = module.apply(variables, z)
    nearest = np.linalg.norm(
        np.asarray(evaluation.residuals[:, -1])[:, None] - inputs[1][-1], axis=2
    ).argmin(axis=1)
    np.testing.assert_array_equal(evaluation.codes[:, -1], nearest)
    assert (training.codes[:, -1] != nearest).any()


def test_codebooks_start_normal_with_a_deviation_of_one_in_k():
    module = ResidualQuantizer(levels=2, codebook_size=100)
    codebooks = module.init(jax.random.key(0), jnp.zeros((1, 50)))["params"]["codebooks"]
    np.testing.assert_allclose(np.std(codebooks, axis=(1, 2)), 0.01, rtol=0.05)
    np.testing.assert_allclose(np.mean(codebooks, axis=(1, 2)), 0, atol=5e-4)
    assert np.abs(codebooks[0] - codebooks[1]).min() > 0  # each level its own
