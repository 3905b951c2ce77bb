"""Random IDs are distinct, and none is more likely than another."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import catid2_jax
from catid2_jax.errors import InputError
from catid2_jax.schemes.random_docids import random_codes


@given(st.data(), st.integers(1, 6), st.integers(1, 4), st.integers(0, 9))
def test_codes_are_distinct_up_to_every_id_there_is(data, size, levels, seed):
    documents = data.draw(st.integers(1, size**levels))
    codes = random_codes(documents, levels, size, np.random.default_rng(seed))
    assert codes.shape == (documents, levels)
    assert codes.min() >= 0
    assert codes.max() < size
    assert len({tuple(row) for row in codes}) == documents


@pytest.mark.parametrize("documents", [2, 3])  # of 6 and of 4 possible ones: either way to draw
def test_all_ids_are_equally_likely(documents):
    levels, size = (1, 6) if documents == 2 else (2, 2)
    generator = np.random.default_rng(0)
    draws = 3000
    counts = collections.Counter(
        tuple(map(tuple, random_codes(documents, levels, size, generator))) for _ in range(draws)
    )
    possible = 30 if documents == 2 else 24  # 6 * 5, and 4 * 3 * 2
    assert len(counts) == possible
    expected = draws / possible
    assert max(abs(n - expected) for n in counts.values()) < 5 * expected**0.5


def test_more_ids_than_an_integer_counts():
    codes = random_codes(50, 26, 2**31, np.random.default_rng(0))
    assert codes.max() > 2**30
    assert len({tuple(row) for row in codes}) == 50


def test_a_table_of_them():
    products = [catid2_jax.Product(f"p{n}", "title", "", ()) for n in range(60)]
    catalog, vectors = catid2_jax.Catalog.from_products(products), np.ones((60, 2), np.float32)

    def learn(**settings):
        return catid2_jax.learn_docids(catalog, vectors, "random_ids", **settings)

    assert (learn().levels, learn().codebook_size) == (4, 256)
    full = learn(levels=2, codebook_size=8, seed=1)
    assert (full.levels, full.codebook_size, full.ids) == (2, 8, catalog.ids)
    np.testing.assert_array_equal(full.codes, learn(levels=2, codebook_size=8, seed=1).codes)
    assert (full.codes != learn(levels=2, codebook_size=8).codes).any()
    for settings, where, found in (
        ({"levels": 0}, "levels", "0"),
        ({"codebook_size": -1}, "codebook_size", "-1"),
        ({"levels": 2, "codebook_size": 7}, "", "60 documents"),
    ):
        with pytest.raises(InputError) as error:
            learn(**settings)
        assert (error.value.where, error.value.found) == (where, found)
