"""IDs by residual k-means: what is clustered, and that every document has its own."""

import jax
import numpy as np
import pytest

import catid2_jax
from catid2_jax.docids.collisions import CollisionConfig, resolve_collisions
from catid2_jax.errors import InputError
from catid2_jax.schemes.quantized import residual_kmeans
from catid2_jax.schemes.residual_kmeans import with_categories

GENERATOR = np.random.default_rng(0)
PATHS = [("A",), ("A", "B"), ("A", "B"), (), ("A", "B", "C"), ("B",)] * 20
X = GENERATOR.normal(size=(120, 6)).astype(np.float32)
CATALOG = catid2_jax.Catalog.from_products(
    catid2_jax.Product(f"p{row}", "title", "", path) for row, path in enumerate(PATHS)
)
SETTINGS = {"levels": 3, "codebook_size": 6}


def learn(vectors=X, scheme="residual_kmeans", **changes):
    return catid2_jax.learn_docids(CATALOG, vectors, scheme, **(SETTINGS | changes))


def test_vectors_with_their_category_s_mean_written_out():
    expected = []
    for path, vector in zip(PATHS, X.astype(np.float64), strict=True):
        same = X.astype(np.float64)[[other == path for other in PATHS]]
        expected.append(vector + 0.7 * same.mean(axis=0) if path else vector)
    before = X.copy()
    np.testing.assert_allclose(with_categories(X, PATHS, 0.7), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(with_categories(X, PATHS, 0.0), X)
    np.testing.assert_array_equal(with_categories(X, [()] * 120, 0.7), X)


@pytest.mark.parametrize(
    ("changes", "vectors"),
    [
        ({}, X),
        ({"category_weight": 2.0}, with_categories(X, PATHS, 2.0)),
        ({"standardize": True}, (X - X.mean(axis=0, dtype=float)) / X.std(axis=0, dtype=float)),
        ({"balanced": True}, X),
    ],
)
def test_ids_are_the_codes_made_unique(changes, vectors):
    balanced = changes.get("balanced", False)
    found = residual_kmeans(vectors.astype(np.float32), 3, 6, jax.random.key(0), balanced)
    codes = resolve_collisions(found.latents, found.codebooks, found.nearest, CollisionConfig())
    table = learn(**changes)
    assert (table.codebook_size, list(table.ids)) == (6, CATALOG.ids)
    np.testing.assert_array_equal(table.nearest, found.nearest)
    np.testing.assert_array_equal(table.codes, codes)
    assert (table.codes != table.nearest).any()
    assert len({tuple(row) for row in table.codes}) == 120


def test_the_balanced_system_is_the_scheme_with_an_option():
    tables = [learn(scheme="rq_kmeans"), learn(scheme="rq_kmeans_balanced")]
    for table, balanced in zip(tables, (False, True), strict=True):
        np.testing.assert_array_equal(table.codes, learn(balanced=balanced).codes)
    sizes = [np.bincount(table.nearest[:, 0], minlength=6) for table in tables]
    assert np.ptp(sizes[1]) <= 4 < np.ptp(sizes[0])
    plain = learn(scheme="rq_kmeans_balanced", balanced=False)
    np.testing.assert_array_equal(plain.codes, tables[0].codes)


def test_another_seed_gives_other_ids():
    assert (learn(seed=1).codes != learn().codes).any()
    np.testing.assert_array_equal(learn(seed=1).codes, learn(seed=1).codes)


@pytest.mark.parametrize(
    ("changes", "where", "found"),
    [
        ({"levels": 0}, "levels", "0"),
        ({"levels": 27}, "levels", "27"),
        ({"levels": "3"}, "levels", "'3'"),
        ({"codebook_size": 0}, "codebook_size", "0"),
        ({"codebook_size": 4}, "", "120 documents"),
        ({"category_weight": -0.5}, "category_weight", "-0.5"),
        ({"category_weight": float("nan")}, "category_weight", "nan"),
        ({"previous": "earlier"}, "previous", "'earlier'"),
    ],
)
def test_settings_that_are_refused(changes, where, found):
    with pytest.raises(InputError) as error:
        learn(**changes)
    assert (error.value.where, error.value.found) == (where, found)
