"""Peers that take turns, so that what else the machine does falls on all of them."""

import random
import statistics
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Name = TypeVar("Name")


def medians(runs: dict[Name, Callable[[], Any]], rounds: int) -> dict[Name, float]:
    """Median seconds of each, compiled before; a turn's order is drawn."""
    for run in runs.values():
        jax.block_until_ready(run())
        jax.block_until_ready(run())
    seconds: dict[Name, list[float]] = {name: [] for name in runs}
    order, generator = list(runs), random.Random(0)
    for _ in range(rounds):
        generator.shuffle(order)
        for name in order:
            start = time.perf_counter()
            jax.block_until_ready(runs[name]())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def product_rates(rows: int, inner: int, columns: int, rounds: int = 15) -> dict[str, float]:
    """GFLOP/s of float32 products [rows, inner] x [inner, columns] in XLA and in PyTorch.

    The right-hand sides are 64 MiB of different ones, as a network's are: none waits in a cache. Of
    tiny ones there are 65, since a call of each would take the time.
    """
    import torch

    generator = np.random.default_rng(0)
    times = min(1 + 2**24 // (inner * columns), 65)
    left = generator.standard_normal((rows, inner), np.float32)
    rights = generator.standard_normal((times, inner, columns), np.float32)
    product = jax.jit(jnp.matmul)
    in_xla = jnp.asarray(left), list(jnp.asarray(rights))
    in_torch = torch.from_numpy(left), list(torch.from_numpy(rights))

    def xla() -> Any:
        return [product(in_xla[0], right) for right in in_xla[1]]

    def pytorch() -> None:
        for right in in_torch[1]:
            torch.matmul(in_torch[0], right)

    seconds = medians({"XLA": xla, "PyTorch": pytorch}, rounds)
    work = 2e-9 * times * rows * inner * columns
    return {name: work / value for name, value in seconds.items()}
