import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.training.sampler import EpochSampler

SIZES = st.tuples(st.integers(1, 50), st.integers(1, 20), st.integers(0, 5))


@given(SIZES, st.integers(0, 30), st.integers(1, 10))
def test_any_slice_of_steps_is_that_slice_of_the_whole(sizes, first, count):
    whole = EpochSampler(*sizes)(0, first + count)
    np.testing.assert_array_equal(EpochSampler(*sizes)(first, count), whole[first:])


@given(SIZES)
def test_an_epoch_holds_no_example_twice_and_leaves_out_less_than_a_batch(sizes):
    sampler = EpochSampler(*sizes)
    epoch = sampler(0, sampler.steps_per_epoch).ravel()
    assert len(set(epoch.tolist())) == len(epoch)
    assert set(epoch.tolist()) <= set(range(sizes[0]))
    assert sizes[0] - len(epoch) < sampler.batch_size


def test_epochs_and_seeds_differ():
    first, second = EpochSampler(100, 100, 0)(0, 2)
    assert (first != second).any()
    assert (EpochSampler(100, 100, 1)(0, 1)[0] != first).any()
