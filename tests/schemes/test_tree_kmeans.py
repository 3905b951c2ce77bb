"""IDs that are paths of hierarchical k-means."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import catid2_jax
from catid2_jax.errors import InputError
from catid2_jax.schemes.category_prefix import category_codes

GENERATOR = np.random.default_rng(0)


def learn(vectors, paths=None, scheme="tree_kmeans", **settings):
    paths = paths or [()] * len(vectors)
    products = [catid2_jax.Product(f"p{n}", "title", "", path) for n, path in enumerate(paths)]
    catalog = catid2_jax.Catalog.from_products(products)
    return catid2_jax.learn_docids(catalog, np.asarray(vectors, np.float32), scheme, **settings)


def common_prefix(one, other):
    shared = (one == other) & (one >= 0)
    return int(np.argmin([*shared, False]))


def nested_clusters():
    """Vectors of 3 clusters, each of 3 clusters of 6 documents; and the clusters of each."""
    outer = 100 * np.eye(3, 6)
    inner = 10 * np.eye(3, 6, 3)
    labels = np.array([*itertools.product(range(3), range(3), range(6))])
    GENERATOR.shuffle(labels)
    centres = outer[labels[:, 0]] + inner[labels[:, 1]]
    return centres + 0.1 * GENERATOR.normal(size=(len(labels), 6)), labels


def test_siblings_are_nearer_than_cousins():
    vectors, labels = nested_clusters()
    codes = learn(vectors, branches=3, leaf_size=6).codes
    distances = {0: [], 1: [], 2: []}
    for i, j in itertools.combinations(range(len(vectors)), 2):
        shared = common_prefix(codes[i], codes[j])
        assert shared == common_prefix(labels[i, :2], labels[j, :2])
        distances[shared].append(np.linalg.norm(vectors[i] - vectors[j]))
    assert max(distances[2]) < min(distances[1])
    assert max(distances[1]) < min(distances[0])
    # Those of a leaf are numbered.
    for leaf in np.unique(codes[:, :2], axis=0):
        rows = (codes[:, :2] == leaf).all(axis=1)
        assert sorted(codes[rows, 2]) == list(range(6))


def test_numbers_alone_where_documents_are_few():
    table = learn(GENERATOR.normal(size=(7, 3)))
    assert (table.levels, table.codebook_size) == (1, 100)
    assert sorted(table.codes[:, 0]) == list(range(7))


def test_the_rows_of_dsi():
    vectors = GENERATOR.normal(size=(120, 3))
    table = learn(vectors, scheme="dsi_semantic")
    np.testing.assert_array_equal(table.codes, learn(vectors, branches=10, leaf_size=100).codes)
    assert (table.levels, table.codebook_size) == (2, 100)
    assert len(np.unique(table.codes[:, 0])) == 10


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 60), st.integers(2, 4), st.integers(1, 5), st.sampled_from(["apart", "equal"])
)
def test_a_cluster_is_as_large_as_a_leaf_at_most(documents, branches, leaf_size, kind):
    """Whatever the vectors are: copies of one vector, and chains of outliers."""
    vectors = np.ones((documents, 2)) if kind == "equal" else 2.0 ** np.arange(documents)[:, None]
    codes = learn(vectors, branches=branches, leaf_size=leaf_size, levels=8).codes
    assert len({tuple(row) for row in codes}) == documents
    lengths = np.sum(codes >= 0, axis=1)
    for row, length in zip(codes, lengths, strict=True):
        assert row[: length - 1].max(initial=0) < branches
        same = (codes[:, : length - 1] == row[: length - 1]).all(axis=1)
        assert sorted(codes[same, length - 1]) == list(range(same.sum()))
        assert same.sum() <= leaf_size
        if length > 1:  # what was divided was too large to be numbered
            parent = (codes[:, : length - 2] == row[: length - 2]).all(axis=1)
            assert parent.sum() > leaf_size


def test_long_chains_are_divided_evenly_in_time():
    """Outliers one by one would take 40 codes."""
    chain = 10.0 ** np.linspace(0, 15, 40)[:, None]
    codes = learn(chain, branches=2, leaf_size=1, levels=7).codes
    assert codes.shape == (40, 7)
    assert len({tuple(row) for row in codes}) == 40


def test_the_row_of_hi_gen():
    paths = [("A", "X"), ("A", "Y"), ("B",)] * 40
    vectors = GENERATOR.normal(size=(120, 3))
    table = learn(vectors, paths, "hi_gen")
    np.testing.assert_array_equal(table.codes[:, :2], category_codes(paths, 2))
    assert (table.levels, table.codebook_size) == (3, 100)


PATHS = st.lists(st.lists(st.sampled_from("ab"), max_size=3).map(tuple), min_size=40, max_size=40)


@settings(max_examples=8, deadline=None)
@given(PATHS.filter(any))
def test_the_first_codes_determine_the_category_and_are_determined_by_it(paths):
    vectors = np.random.default_rng(1).normal(size=(40, 3))
    table = learn(vectors, paths, category_levels=2, branches=3, leaf_size=4)
    np.testing.assert_array_equal(table.codes[:, :2], category_codes(paths, 2))


def test_clusters_are_within_the_category():
    vectors, labels = nested_clusters()
    category = GENERATOR.integers(2, size=len(vectors))
    paths = [("AB"[c],) for c in category]
    codes = learn(vectors, paths, category_levels=1, branches=3, leaf_size=14).codes
    for c in (0, 1):
        rows = np.flatnonzero(category == c)
        assert len(np.unique(codes[rows, 0])) == 1
        pairs = {(int(codes[row, 1]), int(labels[row, 0])) for row in rows}
        assert len(pairs) == 3  # a code for each of the outer clusters


@pytest.mark.parametrize(
    ("paths", "changes", "where", "found"),
    [
        ([()], {"category_levels": 2}, "category_levels", "2, and no product has a category"),
        ([("A",)], {"category_levels": 8}, "category_levels", "8 with 8 levels"),
        ([()], {"branches": 1}, "branches", "1"),
        ([()], {"leaf_size": 0}, "leaf_size", "0"),
        ([()], {"previous": "earlier"}, "previous", "'earlier'"),
        ([()], {"levels": 27}, "levels", "27"),
        ([()], {"levels": 2, "branches": 3, "leaf_size": 3}, "levels", "2 with 10 documents"),
        (
            [("A", "B"), ("A", "B"), ("A", "C"), (), ("B",)] * 2,
            {"levels": 3, "category_levels": 2, "leaf_size": 3},
            "levels",
            "3 with 4 documents in 'A > B'",
        ),
    ],
)
def test_settings_that_are_refused(paths, changes, where, found):
    with pytest.raises(InputError) as error:
        learn(GENERATOR.normal(size=(10, 2)), (paths * 10)[:10], **changes)
    assert (error.value.where, error.value.found) == (where, found)
