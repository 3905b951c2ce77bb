"""Makes one mesh of all devices of all processes, and places arrays on it."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from catid2_jax.errors import InputError
from catid2_jax.ops.mesh import DATA_AXIS, MODEL_AXIS

REPLICATED = PartitionSpec()
"""Whole on every device."""


def data_mesh(model_devices: int = 1) -> Mesh:
    """Makes the mesh of all devices: "data" shards batches, "model" shards parameters.

    Args:
        model_devices: devices that share one copy of the parameters.

    Raises:
        InputError: `model_devices` does not divide the number of devices.
    """
    devices = jax.device_count()
    if devices % model_devices:
        raise InputError("model_devices", model_devices, f"a divisor of the {devices} devices")
    shape = (devices // model_devices, model_devices)
    return jax.make_mesh(shape, (DATA_AXIS, MODEL_AXIS), axis_types=(AxisType.Auto,) * 2)


def place(tree: Any, mesh: Mesh, specs: Any = REPLICATED) -> Any:
    """Puts arrays of the host, the same in every process, on the mesh as global arrays.

    Args:
        tree: pytree of arrays.
        mesh: the devices.
        specs: how they are sharded: one PartitionSpec for all, or a pytree of them.
    """
    if isinstance(specs, PartitionSpec):
        specs = jax.tree.map(lambda _: specs, tree)

    def put(array: Any, spec: PartitionSpec) -> jax.Array:
        array, sharding = np.asarray(array), NamedSharding(mesh, spec)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree, specs)


def fits_on_device(tree: Any) -> bool:
    """Returns whether the arrays take less than half of a device's free memory, if it is known."""
    needed = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))
    memory = jax.local_devices()[0].memory_stats() or {}
    limit = memory.get("bytes_limit")
    return limit is None or 2 * needed < limit - memory.get("bytes_in_use", 0)


def memory_figures() -> dict[str, float]:
    """Tells the memory of the fullest device of this process, where the devices tell it.

    Returns:
        `memory/in_use_gib` and `memory/peak_gib`, in GiB: now, and the most since the start.
    """
    found = [device.memory_stats() or {} for device in jax.local_devices()]
    names = {"memory/in_use_gib": "bytes_in_use", "memory/peak_gib": "peak_bytes_in_use"}
    return {
        name: max(memory[key] for memory in found) / 2**30
        for name, key in names.items()
        if all(key in memory for memory in found)
    }
