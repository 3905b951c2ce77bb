"""Sizes of the tests: tiny ones run on any device, full ones where there is an accelerator."""

import os

import jax
import pytest

ANYWHERE = "GPU_TESTS_ON_CPU"
"""Environment variable that has the full sizes run on a CPU, too."""


@pytest.fixture(params=["tiny bfloat16", "full float32", "full bfloat16"])
def case(request):
    """Whether the size is full, so that kernels are those of real work; and the products' type.

    float32 is the whole of it, on any device.
    """
    size, dtype = request.param.split()
    if size == "full" and jax.default_backend() == "cpu" and not os.environ.get(ANYWHERE):
        pytest.skip(f"needs an accelerator; {ANYWHERE}=1 runs it on a CPU")
    with jax.default_matmul_precision("highest"):
        yield size == "full", dtype
