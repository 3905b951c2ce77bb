"""Peers that take turns, so that what else the machine does falls on all of them."""

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def medians(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each, compiled before; a turn's order is drawn."""
    for run in runs.values():
        jax.block_until_ready(run())
        jax.block_until_ready(run())
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order, generator = list(runs), random.Random(0)
    for _ in range(rounds):
        generator.shuffle(order)
        for name in order:
            start = time.perf_counter()
            jax.block_until_ready(runs[name]())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def product_rates(rows: int, inner: int, columns: int, rounds: int = 15) -> dict[str, float]:
    """GFLOP/s of a float32 product [rows, inner] x [inner, columns] in XLA and in PyTorch."""
    import torch

    generator = np.random.default_rng(0)
    left = generator.standard_normal((rows, inner), np.float32)
    right = generator.standard_normal((inner, columns), np.float32)
    in_torch = torch.from_numpy(left), torch.from_numpy(right)
    in_xla = jnp.asarray(left), jnp.asarray(right)
    product = jax.jit(jnp.matmul)
    times = 1 + int(2e9 / (rows * inner * columns))  # of a call, so that it takes a while

    def xla() -> Any:
        return [product(*in_xla) for _ in range(times)]

    def pytorch() -> None:
        for _ in range(times):
            torch.matmul(*in_torch)

    seconds = medians({"XLA": xla, "PyTorch": pytorch}, rounds)
    work = 2e-9 * times * rows * inner * columns
    return {name: work / value for name, value in seconds.items()}
