"""The bootstrap beside SciPy's, closed forms and its own definition."""

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.errors import InputError
from catid2_jax.evaluation.significance import bootstrap, bootstrap_all, holm


def test_of_one_seed_it_is_scipys():
    values = np.random.default_rng(0).exponential(size=200) - 0.8
    found = bootstrap(values[None], seed=1)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(2)
    )
    assert found.mean == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(expected.standard_error, rel=0.03)
    interval = expected.confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(interval), abs=0.01)


def test_it_has_the_moments_of_all_resamples():
    values = np.array([[0.0, 1.0, 5.0], [2.0, 2.0, -1.0]])
    means = [
        values[np.ix_(seeds, queries)].mean()
        for seeds in itertools.product(range(2), repeat=2)
        for queries in itertools.product(range(3), repeat=3)
    ]
    found = bootstrap(values, resamples=60_000)
    assert found.standard_error == pytest.approx(np.std(means), rel=0.02)
    low, high = np.percentile(means, (2.5, 97.5))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.35)


def test_copies_of_a_seed_add_nothing():
    values = np.random.default_rng(0).normal(size=(1, 100))
    once, thrice = bootstrap(values), bootstrap(np.repeat(values, 3, axis=0))
    assert thrice.standard_error == pytest.approx(once.standard_error, rel=0.05)


def test_figures_with_the_same_draws_are_those_of_each_alone():
    values = np.random.default_rng(6).normal(size=(3, 2, 50))
    for found, figure in zip(bootstrap_all(values, 300, seed=7), values, strict=True):
        expected = bootstrap(figure, 300, seed=7)
        assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(expected))


def test_p_is_that_of_a_t_test_where_values_are_normal():
    values = np.random.default_rng(3).normal(0.13, 1.0, size=400)
    found = bootstrap(values[None], seed=4)
    assert found.p_value == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert bootstrap(-values[None], seed=4).p_value == found.p_value
    assert bootstrap(values[None] + 9, resamples=999).p_value == pytest.approx(2 / 1000)


def test_the_detectable_difference_is_found_four_times_in_five():
    generator = np.random.default_rng(5)
    detectable = bootstrap(generator.normal(size=(1, 100))).detectable
    found = [
        bootstrap(generator.normal(detectable, 1.0, size=(1, 100)), resamples=400, seed=i).p_value
        < 0.05
        for i in range(300)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.08)


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.zeros((0, 3)), "seeds x queries"), (np.array([[1.0, np.nan]]), "finite")],
)
def test_bad_values(values, message):
    with pytest.raises(InputError, match=message):
        bootstrap(values)


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.03, 0.4, 1.0]), max_size=6))
def test_holm_is_the_closure_of_bonferroni(p_values):
    """A hypothesis goes if every set of hypotheses that it is in goes (Marcus et al., 1976)."""
    sets = [s for n in range(7) for s in itertools.combinations(range(len(p_values)), n)]
    expected = [
        max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets if test in s)
        for test in range(len(p_values))
    ]
    assert holm(p_values) == pytest.approx(expected)
