"""IDs that are the digits of numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import catid2_jax
from catid2_jax.errors import InputError
from catid2_jax.schemes.naive import digits


def learn(documents, **settings):
    products = [catid2_jax.Product(f"p{n}", "title", "", ()) for n in range(documents)]
    catalog = catid2_jax.Catalog.from_products(products)
    vectors = np.ones((documents, 2), np.float32)
    return catid2_jax.learn_docids(catalog, vectors, "dsi_naive", **settings)


def as_text(codes):
    return ["".join(str(code) for code in row if code >= 0) for row in codes.tolist()]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True))
def test_digits_are_those_that_python_writes(numbers):
    array = np.array(numbers)
    assert as_text(digits(array, 10, False)) == [str(number) for number in numbers]
    width = len(str(max(numbers)))
    assert as_text(digits(array, 10, True)) == [f"{number:0{width}}" for number in numbers]
    binary = [f"{number:b}" for number in numbers]
    assert as_text(digits(array, 2, False)) == binary


@pytest.mark.parametrize(("padded", "lengths"), [(False, {1: 10, 2: 90, 3: 30}), (True, {3: 130})])
def test_every_number_once_in_random_order(padded, lengths):
    table = learn(130, padded=padded)
    assert (table.levels, table.codebook_size) == (3, 10)
    texts = as_text(table.codes)
    assert sorted(map(int, texts)) == list(range(130))
    assert {n: sum(len(text) == n for text in texts) for n in lengths} == lengths
    numbers = np.array(texts, int)
    assert abs(np.corrcoef(numbers, np.arange(130))[0, 1]) < 0.3
    np.testing.assert_array_equal(table.codes, learn(130, padded=padded).codes)
    assert (table.codes != learn(130, padded=padded, seed=1).codes).any()


def test_a_single_document():
    assert learn(1).codes.tolist() == [[0]]


@pytest.mark.parametrize(
    ("settings", "where", "found"),
    [({"base": 1}, "base", "1"), ({"previous": "earlier"}, "previous", "'earlier'")],
)
def test_settings_that_are_refused(settings, where, found):
    with pytest.raises(InputError) as error:
        learn(3, **settings)
    assert (error.value.where, error.value.found) == (where, found)
