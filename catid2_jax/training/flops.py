"""Counts the floating-point operations of a step, and tells the share of the devices' peak."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import Mesh

PEAK_FLOPS: Mapping[str, float] = {
    "TPU v2": 22.5e12,  # a device is one of a chip's two cores, as in v3 and 7x
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU7x": 1153.5e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
}
"""`device_kind` of JAX -> dense bfloat16 operations per second of a device, by the data sheets."""


def count_flops(jaxpr: Jaxpr) -> int:
    """Counts the operations of the matrix products in a program, over all devices.

    A product of [n, k] and [k, m] has 2nkm. A loop counts as often as it runs, where XLA's own
    `cost_analysis` counts its body once; the longer branch of a condition counts, and a loop of
    unknown length once. What is computed again for the gradient counts, too.

    Args:
        jaxpr: the program, as `jax.jit(f).trace(...)` has it.
    """
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        inner = [count_flops(program) for program in _programs(params.values())]
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left: Any = equation.invars[0].aval
            product: Any = equation.outvars[0].aval
            inner_size = math.prod(left.shape[axis] for axis in contracted)
            total += 2 * math.prod(product.shape) * inner_size
        elif name == "cond":
            total += max(inner)
        elif name == "scan":
            total += params["length"] * sum(inner)
        elif name == "shard_map":  # the program of one device
            total += params["mesh"].size * sum(inner)
        else:
            total += sum(inner)
    return total


def _programs(values: Any) -> Iterator[Jaxpr]:
    """Yields the programs among the parameters of an operation."""
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
        elif isinstance(value, tuple | list):
            yield from _programs(value)


def compute_figures(flops: int, seconds: float, mesh: Mesh) -> dict[str, float]:
    """Tells how fast a step is computed.

    Args:
        flops: operations of the step, over all devices.
        seconds: how long it takes.
        mesh: the devices.

    Returns:
        `compute/tflops`, 10^12 operations per second over all devices, and `compute/mfu`, their
        share of the devices' bfloat16 peak (model FLOPs utilisation) where that is known; nothing
        for a step without products.
    """
    if not (flops and seconds):
        return {}
    rate = flops / seconds
    peak = PEAK_FLOPS.get(mesh.devices.flat[0].device_kind)
    share = {"compute/mfu": rate / (mesh.size * peak)} if peak else {}
    return {"compute/tflops": 1e-12 * rate, **share}
