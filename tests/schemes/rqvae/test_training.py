"""What stage 1 starts from, field by field of its configuration."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from catid2_jax.data.corpus import Catalog, Corpus, QuerySet
from catid2_jax.errors import InputError
from catid2_jax.losses import LossWeights
from catid2_jax.models.rqvae import RQVAE
from catid2_jax.schemes.quantized import query_means, residual_kmeans
from catid2_jax.schemes.rqvae import training
from catid2_jax.schemes.rqvae.training import (
    acting,
    held_out_rows,
    train_rqvae,
    training_categories,
)
from catid2_jax.training.optimizer import TrainingConfig
from catid2_jax.types import Product, Query
from tests.plain import plain_rqvae, plain_weights

PATHS = [(f"a{i % 2}", f"b{i % 4 // 2}", f"c{i % 10}") for i in range(40)]
CONFIG = plain_rqvae(levels=3, codebook_size=4, category_levels=2, latent_dim=3, hidden_dims=(6,))


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
    train_rqvae(corpus, config, plain_weights(), settings, directory, seed)
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
        train_rqvae(corpus, config, plain_weights(), settings, tmp_path / way, 0)
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


def corpus(paths=PATHS, embeddings=None, queries=None):
    products = [Product(f"p{i}", "t", "", path) for i, path in enumerate(paths)]
    return Corpus(Catalog.from_products(products), embeddings, queries)


@pytest.fixture
def spoken(monkeypatch):
    lines = []
    monkeypatch.setattr(training.console, "print", lambda text, **style: lines.append(text))
    return lines


VECTORS = np.zeros((1, 5), np.float32)
KNOWN = QuerySet([Query("q", "tea")], {"q": {"p0": 3}}, VECTORS)


@pytest.mark.parametrize(
    ("paths", "queries", "off", "said"),
    [
        ([("a", "x"), ("b", "y")], KNOWN, set(), []),
        (
            [("a", "x"), ("a", "y")],
            KNOWN,
            set(),
            ["the categories tell products apart at level 2 "],
        ),
        ([("a", "x"), ("b",)], KNOWN, set(), ["the categories tell products apart at level 1 "]),
        (
            [("a", "x"), ("a", "x")],
            KNOWN,
            {"hierarchical_class"},
            ["no two products have different"],
        ),
        ([(), ()], KNOWN, {"hierarchical_class"}, ["no two products have different categories"]),
        ([("a", "x"), ("b", "y")], None, {"query_alignment"}, ["no vectors of training queries"]),
        (
            [("a", "x"), ("b", "y")],
            dataclasses.replace(KNOWN, vectors=None),
            {"query_alignment"},
            ["no vectors of training queries"],
        ),
    ],
)
def test_terms_with_nothing_to_act_on_are_off(spoken, paths, queries, off, said):
    weights = LossWeights()
    categories = training_categories(configured(), paths, 0)
    found = acting(weights, categories, queries)
    assert found == dataclasses.replace(weights, **dict.fromkeys(off, 0.0))
    assert len(spoken) == len(said)
    assert all(line.startswith(start) for line, start in zip(spoken, said, strict=True))


def test_nothing_is_said_of_terms_that_are_off(spoken):
    weights = LossWeights(hierarchical_class=0.0, query_alignment=0.0)
    assert acting(weights, training_categories(configured(), [(), ()], 0), None) == weights
    assert spoken == []


def test_query_means_count_a_query_of_many_products_less():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [4.0, 4.0]], np.float32)
    queries = [Query("a", "x"), Query("b", "y"), Query("c", "z")]
    qrels = {"a": {"p0": 3, "p1": 2}, "b": {"p1": 3}}
    known = QuerySet(queries, qrels, vectors)
    means, searched = query_means(corpus(PATHS[:3], np.ones((3, 2), np.float32), known))
    # p1: half of a and all of b.
    np.testing.assert_allclose(means, [[1, 0], [1 / 3, 2 / 3], [0, 0]], rtol=1e-6)
    assert searched.tolist() == [True, True, False]


def test_equal_embeddings_are_refused(tmp_path):
    equal = corpus(embeddings=np.full((40, 5), 0.5, np.float32))
    with pytest.raises(InputError) as error:
        train_rqvae(equal, CONFIG, LossWeights(), TrainingConfig(epochs=1), tmp_path / "x", 0)
    assert (error.value.where, error.value.found) == ("embeddings", "40 equal rows")
    assert not (tmp_path / "x").exists()


def test_queries_are_standardised_like_the_products(tmp_path, monkeypatch):
    embeddings = np.random.default_rng(0).normal(2.0, 3.0, size=(40, 5)).astype(np.float32)
    known = QuerySet([Query("q", "tea")], {"q": {"p3": 3}}, embeddings[3:4])
    starts = []
    monkeypatch.setattr(training, "train", lambda *arguments, **_: starts.append(arguments))
    settings = TrainingConfig(batch_size=20, epochs=1)
    whole = corpus(embeddings=embeddings, queries=known)
    train_rqvae(whole, CONFIG, LossWeights(), settings, tmp_path / "a", 0)
    train_rqvae(whole, CONFIG, plain_weights(), settings, tmp_path / "b", 0)
    (_, _, data, *_), (_, _, without, *_) = starts
    np.testing.assert_allclose(data.queries[3], data.embeddings[3], rtol=1e-5)
    assert data.searched.tolist() == [row == 3 for row in range(40)]
    assert without.queries is None
