"""Sizes of the tests: tiny ones run on any device, full ones where there is an accelerator."""

import os

import jax
import pytest

ANYWHERE = "GPU_TESTS_ON_CPU"
"""Environment variable that has the full sizes run on a CPU, too."""


@pytest.fixture(params=["tiny", "full"])
def full(request):
    """Whether the size is one at which an accelerator's kernels are those of real work."""
    is_full = request.param == "full"
    if is_full and jax.default_backend() == "cpu" and not os.environ.get(ANYWHERE):
        pytest.skip(f"needs an accelerator; {ANYWHERE}=1 runs it on a CPU")
    return is_full


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request):
    """The type of the matrix products; float32 is the whole of it, on any device."""
    with jax.default_matmul_precision("highest"):
        yield request.param
