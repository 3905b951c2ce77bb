import jax
import jax.numpy as jnp
import numpy as np
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
    module = ResidualQuantizer(levels=L, codes=K)
    variables = module.init(jax.random.key(0), jnp.asarray(inputs[0]))
    assert jax.tree.map(jnp.shape, variables) == {"params": {"codebooks": (L, K, Z)}}
    np.testing.assert_array_equal(
        module.apply(variables, jnp.asarray(inputs[0])).codes,
        quantize(jnp.asarray(inputs[0]), variables["params"]["codebooks"]).codes,
    )
