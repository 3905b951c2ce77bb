"""What stage 1 starts from, field by field of its configuration."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.losses import LossWeights
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig
from catid2_jax.schemes.quantized import residual_kmeans
from catid2_jax.schemes.rqvae import training
from catid2_jax.schemes.rqvae.training import held_out_rows, train_rqvae, training_categories
from catid2_jax.training.optimizer import TrainingConfig
from catid2_jax.types import Product

PATHS = [(f"a{i % 2}", f"b{i % 4 // 2}", f"c{i % 10}") for i in range(40)]
CONFIG = RQVAEConfig(levels=3, codebook_size=4, category_levels=2, latent_dim=3, hidden_dims=(6,))


def configured(**fields):
    return dataclasses.replace(CONFIG, **fields)


def nodes(paths, identity):
    """Numbers of the nodes of each level, in order of first appearance."""
    columns = []
    for level in range(max(map(len, paths))):
        names = []
        for path in paths:
            key = path[: level + 1] if identity == "path" else path[level : level + 1]
            names.append(key if len(path) > level else None)
        order = list(dict.fromkeys(name for name in names if name is not None))
        columns.append([-1 if name is None else order.index(name) for name in names])
    return np.array(columns).T


@pytest.mark.parametrize("identity", ["path", "name"])
@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_category_identity(identity, levels):
    paths = [("a", "x", "u"), ("b", "x", "u"), ("a", "y"), ("b",), ("a", "x", "v"), ("c", "y", "u")]
    config = configured(levels=4, category_levels=levels, category_identity=identity)
    found = training_categories(config, paths, 0)
    assert found.shape == (6, levels)
    np.testing.assert_array_equal(found, nodes(paths, identity)[:, :levels])


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_masked_categories_lose_their_last_level(share):
    """Whole nodes of level H, each with all of its documents."""
    config = configured(levels=4, category_levels=3, masked_categories=share)
    found, whole = training_categories(config, PATHS, 0), nodes(PATHS, "path")
    np.testing.assert_array_equal(found[:, :2], whole[:, :2])
    masked = found[:, 2] < 0
    np.testing.assert_array_equal(found[~masked, 2], whole[~masked, 2])
    count = len(set(whole[:, 2]))
    assert count == 20
    assert len(set(whole[masked, 2])) == share * count
    assert set(whole[masked, 2]).isdisjoint(whole[~masked, 2])


def test_masked_categories_are_drawn_by_the_seed():
    config = configured(levels=4, category_levels=3, masked_categories=0.5)

    def masked(seed):
        return tuple(training_categories(config, PATHS, seed)[:, 2] < 0)

    assert masked(0) == masked(0)
    assert len({masked(seed) for seed in range(5)}) > 1


def caught(monkeypatch, directory, config, embeddings, settings, seed=0):
    """State, data and sampler with which training starts."""
    products = [Product(f"p{i}", "t", "", path) for i, path in enumerate(PATHS)]
    starts = []
    monkeypatch.setattr(training, "train", lambda *arguments, **_: starts.append(arguments))
    corpus = Corpus(Catalog.from_products(products), embeddings)
    train_rqvae(corpus, config, LossWeights(), settings, directory, seed)
    ((_, state, data, sampler, *_),) = starts
    return state, data, sampler


@pytest.mark.parametrize("latent_dim", [3, 7])
def test_the_linear_path_starts_at_the_principal_components(tmp_path, monkeypatch, latent_dim):
    """E is PCA, D its inverse, and the codes are residual k-means of the components."""
    embeddings = np.random.default_rng(0).normal(2.0, 3.0, size=(40, 5)).astype(np.float32)
    embeddings[:, 3] += 2 * embeddings[:, 1]
    config = configured(linear_path="pca", latent_dim=latent_dim)
    settings = TrainingConfig(batch_size=20, epochs=1)
    state, data, _ = caught(monkeypatch, tmp_path, config, embeddings, settings)
    model, variables = RQVAE(config, 5), {"params": state.params}
    rows = jnp.asarray(data.embeddings)
    latents = model.apply(variables, rows, method=RQVAE.encode)
    components = PCA(min(latent_dim, 5)).fit(data.embeddings)
    expected = components.transform(data.embeddings)
    signs = np.sign(np.sum(expected * latents[:, :5], axis=0))
    np.testing.assert_allclose(latents[:, :5], expected * signs, atol=1e-4)
    np.testing.assert_array_equal(latents[:, 5:], 0.0)
    decoded = model.apply(variables, latents, method=RQVAE.decode)
    np.testing.assert_allclose(decoded, components.inverse_transform(expected), atol=1e-4)
    found = residual_kmeans(np.asarray(latents), 3, 4, jax.random.key(1))
    codes = model.apply(variables, rows).quantization.codes
    np.testing.assert_array_equal(codes, found.nearest)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.99])
def test_held_out_documents_are_not_trained_on(tmp_path, monkeypatch, share):
    embeddings = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    config = configured(held_out=share, standardize=False, codebook_start="random")
    settings = TrainingConfig(batch_size=20, epochs=1)
    _, data, sampler = caught(monkeypatch, tmp_path, config, embeddings, settings)
    held_out = held_out_rows(40, share, 0)
    assert len(held_out) == {0.0: 0, 0.1: 4, 0.99: 39}[share]
    rest = np.setdiff1d(np.arange(40), held_out)
    np.testing.assert_array_equal(data.embeddings, embeddings[rest])
    np.testing.assert_array_equal(data.categories, nodes(PATHS, "path")[rest, :2])
    assert sampler.examples == 40 - len(held_out)
    assert len(held_out_rows(10**6, share, 0)) <= 4096
    assert share != 0.1 or len({tuple(held_out_rows(40, share, seed)) for seed in range(5)}) > 1


def test_codebook_start(tmp_path, monkeypatch):
    """k-means centroids level by level: each is the mean of the residuals that choose it."""
    embeddings = np.random.default_rng(0).normal(2.0, 3.0, size=(40, 5)).astype(np.float32)
    products = [Product(f"p{i}", "t", "", path) for i, path in enumerate(PATHS)]
    corpus = Corpus(Catalog.from_products(products), embeddings)
    settings, starts = TrainingConfig(batch_size=20, epochs=1), {}
    for way in ("kmeans", "random"):

        def catch(step, state, data, *_, way=way, **__):
            starts[way] = (state, data)

        monkeypatch.setattr(training, "train", catch)
        config = configured(codebook_start=way)
        train_rqvae(corpus, config, LossWeights(), settings, tmp_path / way, 0)
    (kmeans, data), (random, _) = starts["kmeans"], starts["random"]
    np.testing.assert_allclose(
        data.embeddings, (embeddings - embeddings.mean(0)) / embeddings.std(0), atol=1e-5
    )
    np.testing.assert_array_equal(data.categories, nodes(PATHS, "path")[:, :2])

    params = jax.tree.map(np.asarray, kmeans.params["encoder"])
    first, last = params["Dense_0"], params["Dense_1"]
    residuals = np.maximum(data.embeddings @ first["kernel"] + first["bias"], 0) @ last["kernel"]
    for codebook in np.asarray(kmeans.params["quantizer"]["codebooks"]):
        nearest = cdist(residuals, codebook).argmin(axis=1)
        for code in range(4):
            np.testing.assert_allclose(
                codebook[code], residuals[nearest == code].mean(axis=0), atol=1e-4
            )
        residuals = residuals - codebook[nearest]

    # Normal with a deviation of 1 / K = 0.25, and the same network around them.
    codebooks = np.asarray(random.params["quantizer"]["codebooks"])
    assert 0.15 < codebooks.std() < 0.35
    np.testing.assert_array_equal(random.params["encoder"]["Dense_0"]["kernel"], first["kernel"])
