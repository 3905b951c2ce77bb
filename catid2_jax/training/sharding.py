"""Devices, and what lies on them: one mesh over all devices of all processes."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from catid2_jax.ops.mesh import DATA_AXIS


def data_mesh() -> Mesh:
    """All devices in one axis, over which batches are sharded and parameters replicated."""
    return jax.make_mesh((jax.device_count(),), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def place(tree: Any, mesh: Mesh, spec: PartitionSpec | None = None) -> Any:
    """Arrays of the host, the same in every process, as global arrays of the mesh.

    Args:
        tree: pytree of arrays.
        mesh: the devices.
        spec: how they are sharded; whole on every device if None.
    """
    sharding = NamedSharding(mesh, spec or PartitionSpec())

    def put(array: Any) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree)


def fits_on_device(tree: Any) -> bool:
    """Whether the arrays take less than half of what a device has left; unknown counts as yes."""
    needed = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))
    memory = jax.local_devices()[0].memory_stats() or {}
    limit = memory.get("bytes_limit")
    return limit is None or 2 * needed < limit - memory.get("bytes_in_use", 0)
