import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.errors import InputError
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig

CONFIG = RQVAEConfig(levels=3, codes=5, category_levels=2, latent_dim=4, hidden_dims=(8, 6))


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
    config = RQVAEConfig()
    assert (config.levels, config.codes, config.category_levels) == (4, 256, 3)
    assert (*config.hidden_dims, config.latent_dim) == (2048, 1024, 512, 256, 128, 64, 32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"category_levels": 4}, r"category_levels is 4 and levels is 4: expected 0 <= H < L"),
        ({"levels": 3}, "H < L"),
        ({"codes": 0}, "codes is 0"),
        ({"code_temperature": 0.0}, "code_temperature is 0.0"),
    ],
)
def test_bad_shapes_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        RQVAEConfig(**fields)
