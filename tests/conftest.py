"""Shapes are checked at every call, ranks are never promoted in silence, warnings are errors."""

import contextlib
import os

import hypothesis
import jax
from jaxtyping import install_import_hook

# TensorFlow first and then Triton, which PyTorch's CUDA builds load, is a segmentation fault.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

# A third of the time of the tests went into LLVM's optimisations of code that runs once. Processes
# that tests start have it from here. XLA_FLAGS= runs them with what users get.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# A test that fails where the machine is busy says nothing of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

jax.config.update("jax_numpy_rank_promotion", "raise")

install_import_hook(
    [f"catid2_jax.{part}" for part in ("ops", "losses", "models", "decoding")],
    "beartype.beartype",
)
