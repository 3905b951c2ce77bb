"""GenRet: its losses against NumPy, and codes from which documents are found again."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.errors import InputError
from catid2_jax.schemes.config import DocidsConfig
from catid2_jax.schemes.genret.scheme import GenRet
from catid2_jax.schemes.genret.step import PrefixSampler, level_losses, match_losses
from catid2_jax.schemes.scheme import Run
from catid2_jax.types import Product

N, L, K = 60, 3, 4
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(N, 6)).astype(np.float32)
SMALL = GenRet(L, K, latent_dim=5, hidden_dims=(16,), steps=30, batch_size=32, learning_rate=3e-3)


def corpus_of():
    catalog = Catalog.from_products(Product(f"p{n}", "t", "", ()) for n in range(N))
    return Corpus(catalog, X)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    run = Run("genret", tmp_path_factory.mktemp("genret"))
    return SMALL.fit(corpus_of(), run), run


def squared(x, y):
    return ((x[:, None] - y[None]) ** 2).sum(axis=2)


def matched(anchors, states, groups, tau):
    """Anchor by anchor, among the documents of its group."""
    losses = []
    for i, anchor in enumerate(anchors):
        rivals = np.flatnonzero(groups == groups[i])
        scores = log_softmax(-((anchor - states[rivals]) ** 2).sum(axis=1) / tau)
        losses.append(-scores[rivals == i].item())
    return np.array(losses)


def test_losses_of_a_level():
    states, queries = GENERATOR.normal(size=(9, 3)), GENERATOR.normal(size=(9, 3))
    codebook, groups = GENERATOR.normal(size=(K, 3)), np.array([0, 0, 1, 1, 1, 2, 0, 1, 0])
    searched = np.arange(9) % 2 == 0
    found = level_losses(
        *(jnp.asarray(x, jnp.float32) for x in (states, queries, codebook)),
        jnp.asarray(groups),
        jnp.asarray(searched),
        0.7,
    )
    codes = squared(states, codebook).argmin(axis=1)
    chances = log_softmax(-squared(states, codebook) / 0.7, axis=1)
    of_code = log_softmax(-squared(queries, codebook) / 0.7, axis=1)
    rows = np.arange(9)
    expected = {
        "auto_encoding": matched(codebook[codes], states, groups, 0.7).mean(),
        "commitment": -chances[rows, codes].mean(),
        "retrieval": (matched(queries, states, groups, 0.7) - of_code[rows, codes])[
            searched
        ].mean(),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


def test_a_document_is_found_among_those_of_its_prefix_only():
    states = jnp.asarray(GENERATOR.normal(size=(4, 3)), jnp.float32)
    losses = match_losses(states[::-1], states, jnp.arange(4), 1.0)
    np.testing.assert_allclose(losses, 0.0, atol=1e-6)


def test_the_auto_encoding_loss_falls_level_by_level(fitted):
    """From one of 60 documents, less at each level, to almost nothing to be told apart."""
    _, run = fitted
    losses = [run.figures[f"auto_encoding/level_{level}"] for level in range(1, L + 1)]
    assert np.log(N) > losses[0] > losses[1] + 0.5
    assert losses[1] > losses[2] + 0.3
    assert losses[2] < np.log(N) / 3


def test_training_lowers_the_loss_of_the_clusters_it_starts_from(fitted, tmp_path):
    _, trained = fitted
    start = Run("genret", tmp_path)
    dataclasses.replace(SMALL, levels=L, learning_rate=1e-9).fit(corpus_of(), start)
    name = "auto_encoding/level_1"
    assert trained.figures[name] < 0.95 * start.figures[name]


def test_a_finished_fit_is_not_made_again(fitted, monkeypatch):
    table, run = fitted
    monkeypatch.setattr("catid2_jax.schemes.genret.scheme.make_level_step", lambda *_: None)
    again = SMALL.fit(corpus_of(), Run("genret", run.directory))
    np.testing.assert_array_equal(again.codes, table.codes)
    np.testing.assert_array_equal(again.nearest, table.nearest)


def test_codes_start_as_evenly_used_clusters(fitted):
    table, _ = fitted
    assert (table.levels, table.codebook_size) == (L, K)
    counts = np.bincount(table.nearest[:, 0], minlength=K)
    assert counts.min() >= N / K / 3


def test_batches_hold_documents_of_the_same_prefix():
    groups = GENERATOR.integers(6, size=N)
    sampler = PrefixSampler(groups, 20, seed=0)
    first, second = sampler(0, 3), sampler(3, 3)
    for batches in (first, second):
        assert sorted(batches.ravel()) == list(range(N))
        order = groups[batches.ravel()]
        assert 1 + np.count_nonzero(np.diff(order)) == len(set(groups))
    assert (first != second).any()
    assert len(set(groups[first[0]])) < 5


def test_more_documents_than_ids_and_an_earlier_state_are_refused(tmp_path):
    with pytest.raises(InputError, match="60 documents"):
        dataclasses.replace(SMALL, levels=2).fit(corpus_of(), Run("genret", tmp_path))
    continued = dataclasses.replace(SMALL, docids=DocidsConfig(previous="earlier"))
    with pytest.raises(InputError) as error:
        continued.fit(corpus_of(), Run("genret", tmp_path))
    assert error.value.where == "previous"
