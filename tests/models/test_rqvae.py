import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.ablations import LITERAL
from catid2_jax.errors import InputError
from catid2_jax.models.mlp import MLP
from catid2_jax.models.residual_quantizer import quantize
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig
from tests.plain import plain_rqvae

CONFIG = plain_rqvae(levels=3, codebook_size=5, category_levels=2, latent_dim=4, hidden_dims=(8, 6))


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def test_forward_is_encoder_quantiser_decoder_written_out():
    model = RQVAE(CONFIG, embedding_dim=10)
    x = np.random.default_rng(0).normal(size=(7, 10)).astype(np.float32)
    params = model.init(jax.random.key(0), jnp.asarray(x))["params"]
    output = model.apply({"params": params}, jnp.asarray(x))
    params = jax.tree.map(np.asarray, params)

    hidden = np.maximum(dense(params["encoder"]["Dense_0"], x), 0)
    hidden = np.maximum(dense(params["encoder"]["Dense_1"], hidden), 0)
    latents = dense(params["encoder"]["Dense_2"], hidden)
    np.testing.assert_allclose(output.latents, latents, atol=1e-5)
    np.testing.assert_allclose(output.quantization.residuals[:, 0], latents, atol=1e-5)

    quantized = np.asarray(output.quantization.selected).sum(axis=1)
    hidden = np.maximum(dense(params["decoder"]["Dense_0"], quantized), 0)
    hidden = np.maximum(dense(params["decoder"]["Dense_1"], hidden), 0)
    reconstruction = dense(params["decoder"]["Dense_2"], hidden)
    np.testing.assert_allclose(output.reconstructions, reconstruction, atol=1e-5)
    assert params["decoder"]["Dense_0"]["kernel"].shape == (4, 6)
    assert params["decoder"]["Dense_2"]["kernel"].shape == (8, 10)


def test_default_shape_is_the_paper_s():
    config = RQVAEConfig(
        **{
            path.removeprefix("rqvae."): value
            for path, value in LITERAL.items()
            if path.startswith("rqvae.")
        }
    )
    assert (config.levels, config.codebook_size, config.category_levels) == (4, 256, 3)
    assert (config.code_temperature, config.code_temperature_unit) == (1, "one")
    assert (*config.hidden_dims, config.latent_dim) == (2048, 1024, 512, 256, 128, 64, 32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"category_levels": 4}, ("4 with 4 levels", "category_levels < levels, so that")),
        ({"category_levels": -1}, ("-1", "at least 0")),
        ({"codebook_size": 0}, ("0", "at least 1")),
        ({"latent_dim": 0}, ("0", "at least 1")),
        ({"code_temperature": 0.0}, ("0.0", "more than 0")),
        ({"sinkhorn_epsilon": -0.1}, ("-0.1", "at least 0")),
        ({"masked_categories": 1.5}, ("1.5", "at least 0 and at most 1")),
        ({"masked_categories": -0.5}, ("-0.5", "at least 0 and at most 1")),
        ({"dropout_rate": 1.0}, ("1.0", "at least 0 and less than 1")),
        ({"dropout_rate": -0.1}, ("-0.1", "at least 0 and less than 1")),
        ({"activation": "tanh"}, ("'tanh'", "one of gelu, relu, silu")),
        ({"kernel": "zeros"}, ("'zeros'", "one of he_normal, lecun_normal, xavier_normal, xav")),
    ],
)
def test_bad_shapes_are_refused(fields, message):
    found, expected = message
    with pytest.raises(InputError) as error:
        plain_rqvae(**fields)
    assert (error.value.where, error.value.found) == (*fields, found)
    assert error.value.expected.startswith(expected)


def test_fewer_levels_than_the_default_categories_need():
    with pytest.raises(InputError, match="category_levels: found 3 with 3 levels"):
        plain_rqvae(levels=3)


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("relu", lambda x: np.where(x > 0, x, 0)),
        ("silu", lambda x: x / (1 + np.exp(-x))),
        # Hendrycks and Gimpel (2016), in the form with tanh.
        ("gelu", lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    ],
)
def test_activation_lies_between_the_layers_and_not_after_the_last(activation, formula):
    model = MLP((7, 5, 3), activation=activation)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    params = model.init(jax.random.key(0), jnp.asarray(x))["params"]
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.1), params)  # biases too
    y = dense(params["Dense_0"], x)
    y = dense(params["Dense_1"], formula(y))
    y = dense(params["Dense_2"], formula(y))
    np.testing.assert_allclose(model.apply({"params": params}, jnp.asarray(x)), y, rtol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "deviation"),
    [
        ("he_normal", np.sqrt(2 / 300)),
        ("lecun_normal", np.sqrt(1 / 300)),
        ("xavier_normal", np.sqrt(2 / (300 + 200))),
        ("xavier_uniform", np.sqrt(2 / (300 + 200))),
    ],
)
def test_kernels_start_with_the_deviation_of_their_papers(kernel, deviation):
    """He et al. (2015); LeCun et al. (1998); Glorot and Bengio (2010); of 300 inputs to 200."""
    config = plain_rqvae(hidden_dims=(200,), latent_dim=300, codebook_size=2, kernel=kernel)
    params = RQVAE(config, 300).init(jax.random.key(0), jnp.zeros((1, 300)))["params"]
    start = np.asarray(params["encoder"]["Dense_0"]["kernel"])
    assert start.shape == (300, 200)
    np.testing.assert_allclose(start.std(), deviation, rtol=0.02)
    np.testing.assert_allclose(start.mean(), 0, atol=4 * deviation / np.sqrt(start.size))
    largest = np.abs(start).max() / deviation
    if kernel == "xavier_uniform":
        np.testing.assert_allclose(largest, np.sqrt(3), rtol=1e-3)
    else:  # a normal, cut at twice its deviation before that is scaled back
        np.testing.assert_allclose(largest, 2 / 0.87962566, rtol=1e-2)
    assert not np.any(params["encoder"]["Dense_0"]["bias"])


def test_dropout_takes_hidden_units_away_in_training_and_scales_the_rest():
    """A network whose output is its hidden layer."""
    model = MLP((500, 500), dropout_rate=0.3)
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.uniform(1, 2, size=(8, 4)), jnp.float32)
    first = generator.uniform(1, 2, size=(4, 500)).astype(np.float32)
    params = {
        "Dense_0": {"kernel": jnp.asarray(first), "bias": jnp.zeros(500)},
        "Dense_1": {"kernel": jnp.eye(500), "bias": jnp.zeros(500)},
    }
    hidden = np.asarray(x) @ first
    np.testing.assert_allclose(model.apply({"params": params}, x), hidden, rtol=1e-5)

    def train(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return np.asarray(model.apply({"params": params}, x, training=True, rngs=rngs))

    output = train(0)
    dropped = output == 0
    np.testing.assert_allclose(output[~dropped], hidden[~dropped] / 0.7, rtol=1e-5)
    np.testing.assert_allclose(dropped.mean(), 0.3, atol=4 * np.sqrt(0.3 * 0.7 / dropped.size))
    np.testing.assert_array_equal(train(0), output)
    assert ((train(1) == 0) != dropped).any()


def test_dropout_is_in_the_encoder_and_in_the_decoder():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 10)), jnp.float32)
    model = RQVAE(dataclasses.replace(CONFIG, dropout_rate=0.5), embedding_dim=10)
    params = model.init(jax.random.key(0), x)["params"]

    def change(params, rngs):
        evaluation = model.apply({"params": params}, x)
        training = model.apply({"params": params}, x, training=True, rngs=rngs)
        return [
            float(jnp.abs(a - b).max())
            for a, b in (
                (training.latents, evaluation.latents),
                (training.reconstructions, evaluation.reconstructions),
            )
        ]

    rngs = {"dropout": jax.random.key(0)}
    assert min(change(params, rngs)) > 0
    # With a constant encoder, only the decoder's is left.
    constant = {**params, "encoder": jax.tree.map(jnp.zeros_like, params["encoder"])}
    constant["quantizer"] = {"codebooks": jnp.ones((3, 5, 4))}
    latents, reconstructions = change(constant, rngs)
    assert latents == 0 < reconstructions


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"code_temperature": 0.2}, {"temperature": 0.2}),
        ({"code_temperature_unit": "level"}, {"temperature_unit": "level"}),
        ({"code_distance": "squared"}, {"code_distance": "squared"}),
        ({"sinkhorn_epsilon": 0.02}, {"sinkhorn_epsilon": 0.02}),
    ],
    ids=str,
)
def test_fields_of_the_quantiser_reach_it(fields, options):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 10)), jnp.float32)
    model = RQVAE(dataclasses.replace(CONFIG, **fields), embedding_dim=10)
    params = model.init(jax.random.key(0), x)["params"]
    output = model.apply({"params": params}, x, training=True).quantization
    codebooks = params["quantizer"]["codebooks"]
    latents = model.apply({"params": params}, x, method=RQVAE.encode)
    expected, plain = quantize(latents, codebooks, **options), quantize(latents, codebooks)
    np.testing.assert_array_equal(output.codes, expected.codes)
    np.testing.assert_allclose(output.log_probabilities, expected.log_probabilities, rtol=1e-5)
    gap = jnp.abs(output.log_probabilities - plain.log_probabilities).max()
    assert gap > 1e-3 or (output.codes != plain.codes).any()


@pytest.mark.parametrize(("way", "reaches"), [("stop_codes", True), ("straight_through", False)])
def test_residual_gradient_reaches_the_encoder_as_configured(way, reaches):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 10)), jnp.float32)
    model = RQVAE(dataclasses.replace(CONFIG, residual_gradient=way), embedding_dim=10)
    params = model.init(jax.random.key(0), x)["params"]

    def last_residual(params):
        return jnp.sum(model.apply({"params": params}, x).quantization.residuals[:, -1])

    gradient = jax.grad(last_residual)(params)["encoder"]
    assert any(jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradient)) == reaches


def test_dtype_bfloat16_is_of_the_matrix_products_only():
    x = np.random.default_rng(0).normal(size=(7, 10)).astype(np.float32)
    model = RQVAE(dataclasses.replace(CONFIG, dtype="bfloat16"), embedding_dim=10)
    params = model.init(jax.random.key(0), jnp.asarray(x))["params"]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    output = model.apply({"params": params}, jnp.asarray(x))
    wide = RQVAE(CONFIG, embedding_dim=10).apply({"params": params}, jnp.asarray(x))
    assert output.reconstructions.dtype == jnp.bfloat16
    for name in ("quantized", "residuals", "selected", "log_probabilities"):
        assert getattr(output.quantization, name).dtype == jnp.float32
    assert output.latents.dtype == jnp.float32
    scale = np.abs(wide.latents).max()
    np.testing.assert_allclose(output.latents, wide.latents, atol=0.02 * scale)
    assert (output.latents != wide.latents).any()
