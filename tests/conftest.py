"""Shapes are checked at every call, ranks are never promoted in silence, warnings are errors."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile

import hypothesis
import jax
import pytest
from jaxtyping import install_import_hook

from tests.shared import once

# PyTorch's CUDA builds bring Triton, which ends the process if TensorFlow was loaded before it.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

# Programs are compiled once for all workers and for the processes that tests start.
_CACHE = "JAX_COMPILATION_CACHE_DIR"
_OWN_CACHE = tempfile.mkdtemp(prefix="catid2-jax-") if _CACHE not in os.environ else None
if _OWN_CACHE:
    os.environ[_CACHE] = _OWN_CACHE
    jax.config.update("jax_compilation_cache_dir", _OWN_CACHE)
for _name in (
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
):
    os.environ.setdefault(_name.upper(), "0")
    jax.config.update(_name, 0)

# Half of the time of the tests went into optimisations of code that runs once. Processes that tests
# start have the flags from here. XLA_FLAGS= runs them with what users get.
_FLAGS = ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")


def _accepted(flags):
    """Whether this version of XLA has the flags; one that it does not know ends the process."""
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    environment = os.environ | {"XLA_FLAGS": flags}
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0


if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = next(filter(_accepted, (" ".join(_FLAGS), _FLAGS[0])), "")

# A test that fails where the machine is busy says nothing of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

jax.config.update("jax_numpy_rank_promotion", "raise")

install_import_hook(
    [f"catid2_jax.{part}" for part in ("ops", "losses", "models", "decoding")],
    "beartype.beartype",
)


def pytest_unconfigure():
    """Takes the cache away; workers have it from the process that started them."""
    if _OWN_CACHE:
        shutil.rmtree(_OWN_CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_workdir(tmp_path_factory):
    """A finished work directory of `tests/plugins/tiny.py`, to be read; one for all processes."""
    from catid2_jax.config import freeze
    from catid2_jax.steps.chain import run_until
    from catid2_jax.workdir import Workdir
    from tests.plugins import tiny

    def make(folder):
        run_until(freeze(tiny.get_config()), Workdir(folder), "evaluate")

    return once(tmp_path_factory, "tiny_workdir", make)
