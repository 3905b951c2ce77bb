"""The peak of a part of a run."""

import numpy as np

from catid2_jax.memory import peak_memory, reset_peak


def test_what_was_taken_before_does_not_count():
    reset_peak()
    before = peak_memory()
    taken = np.ones(2**26, np.uint8)
    with_it = peak_memory()
    assert taken.nbytes * 0.9 < with_it - before < taken.nbytes * 2
    del taken
    assert peak_memory() > with_it - 2**23
    reset_peak()
    assert peak_memory() < with_it - 2**26 * 0.9
