"""Compilations that a process leaves for others: JAX's persistent cache, for some tests only."""

import contextlib
import os

import jax
from jax.experimental.compilation_cache import compilation_cache

SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@contextlib.contextmanager
def compiling_into(folder):
    """What is compiled here needs no compilation where `environment(folder)` holds."""
    settings = SETTINGS | {"jax_compilation_cache_dir": str(folder)}
    before = {name: getattr(jax.config, name) for name in settings}
    _set(settings)
    try:
        yield
    finally:
        _set(before)


def environment(folder):
    """The environment of a process that finds compilations there, and leaves its own."""
    settings = SETTINGS | {"jax_compilation_cache_dir": folder}
    return os.environ | {name.upper(): str(value) for name, value in settings.items()}


def _set(settings):
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # JAX looks for it once
