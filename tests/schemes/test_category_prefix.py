"""IDs whose first codes are the category path."""

import collections

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import catid2_jax
from catid2_jax.errors import InputError
from catid2_jax.schemes.category_prefix import category_codes
from catid2_jax.schemes.quantized import residual_kmeans

PATHS = st.lists(st.lists(st.sampled_from("abc"), max_size=4).map(tuple), min_size=1, max_size=30)
X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)


def learn(paths, **changes):
    products = [catid2_jax.Product(f"p{n}", "title", "", path) for n, path in enumerate(paths)]
    catalog = catid2_jax.Catalog.from_products(products)
    sizes = {"levels": 4, "codebook_size": 7}
    return catid2_jax.learn_docids(catalog, X, "category_prefix", **(sizes | changes))


@given(PATHS, st.integers(1, 4))
def test_codes_are_equal_where_paths_are(paths, depth):
    codes = category_codes(paths, depth)
    assert codes.shape == (len(paths), depth)
    for level in range(1, depth + 1):
        pairs = {(tuple(row[:level]), path[:level]) for row, path in zip(codes, paths, strict=True)}
        assert len(pairs) == len({code for code, _ in pairs}) == len({path for _, path in pairs})
    # Siblings are numbered from 0, none before one that is more frequent.
    counts = collections.Counter(tuple(row[: end + 1]) for row in codes for end in range(depth))
    for node, count in counts.items():
        assert node[-1] == 0 or counts[(*node[:-1], node[-1] - 1)] >= count


def test_codes_by_hand():
    paths = [("A", "X"), ("B",), ("A", "Y"), (), ("A", "Y", "Z"), ("A",), ("B", "W")]
    expected = [[0, 2], [1, 0], [0, 0], [2, 0], [0, 0], [0, 1], [1, 1]]
    np.testing.assert_array_equal(category_codes(paths, 2), expected)


@settings(max_examples=8)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=3).map(tuple), min_size=40, max_size=40))
def test_ids_are_distinct_and_begin_with_the_category(paths):
    codes = learn(paths, category_levels=2).codes
    assert codes.shape == (40, 4)
    assert len({tuple(row) for row in codes}) == 40
    np.testing.assert_array_equal(codes[:, :2], category_codes(paths, 2))


def test_the_other_codes_are_residual_kmeans_within_the_category():
    paths = [("A",)] * 25 + [("B", "C")] * 14 + [()]
    within = X.astype(np.float64)
    for rows in (slice(0, 25), slice(25, 39), slice(39, 40)):
        within[rows] -= within[rows].mean(axis=0)
    expected = residual_kmeans(within.astype(np.float32), 2, 7, jax.random.key(0))
    found = learn(paths)
    assert (found.levels, found.codebook_size) == (4, 7)
    np.testing.assert_array_equal(found.nearest[:, 2:], expected.nearest)
    kept = (found.codes == found.nearest).all(axis=1)
    assert 0.5 < kept.mean() < 1
    np.testing.assert_array_equal(found.codes[:, :2], found.nearest[:, :2])


def test_a_category_with_as_many_documents_as_the_other_codes_tell_apart():
    paths = [("A",)] * 36 + [("B",)] * 4
    codes = learn(paths, levels=3, category_levels=1, codebook_size=6).codes
    assert {tuple(row) for row in codes[:36, 1:]} == {(i, j) for i in range(6) for j in range(6)}
    assert (codes[:, 0] == [0] * 36 + [1] * 4).all()


@pytest.mark.parametrize(
    ("paths", "changes", "where", "found"),
    [
        ([()], {"category_levels": 4}, "category_levels", "4 with 4 levels"),
        ([()], {"category_levels": 0}, "category_levels", "0"),
        ([()], {"levels": 0}, "levels", "0"),
        ([()], {"codebook_size": 0}, "codebook_size", "0"),
        ([()], {"codebook_size": 2}, "", "40 documents"),
        ([()], {"previous": "earlier"}, "previous", "'earlier'"),
        ([("A",)], {"levels": 3}, "levels", "3 with 40 documents in 'A'"),
        ([()], {"levels": 3}, "levels", "3 with 40 documents"),
        (
            [("A", "B", letter) for letter in "abcde"],
            {"codebook_size": 4, "category_levels": 3},
            "codebook_size",
            "4 with 5 categories in 'A > B'",
        ),
        (
            [(letter,) for letter in "abcdefgh"],
            {},
            "codebook_size",
            "7 with 8 categories",
        ),
    ],
)
def test_settings_that_are_refused(paths, changes, where, found):
    with pytest.raises(InputError) as error:
        learn((paths * 40)[:40], **changes)
    assert (error.value.where, error.value.found) == (where, found)
