"""Shapes are checked at every call, ranks are never promoted in silence, warnings are errors."""

import contextlib
import fcntl
import os

import hypothesis
import jax
import pytest
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


@pytest.fixture(scope="session")
def tiny_workdir(tmp_path_factory):
    """A finished work directory of `tests/plugins/tiny.py`, to be read; one for all processes."""
    from catid2_jax.config import freeze
    from catid2_jax.steps.chain import run_until
    from catid2_jax.workdir import Workdir
    from tests.plugins import tiny

    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny_workdir"
    with open(root.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "metrics.json").exists():
            run_until(freeze(tiny.get_config()), Workdir(root), "evaluate")
    return root
