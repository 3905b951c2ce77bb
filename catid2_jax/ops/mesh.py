"""The mesh of devices: one named axis over the rows of a batch, one over the parameters."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

DATA_AXIS, MODEL_AXIS = "data", "model"


def local_mesh() -> Mesh:
    """Returns a mesh of this process's devices, all for rows: for work without other processes."""
    return Mesh(np.array(jax.local_devices()), (DATA_AXIS,))


def data_devices() -> int:
    """Counts the devices that share rows in the current mesh (`jax.set_mesh`); 1 without one."""
    return jax.sharding.get_abstract_mesh().shape.get(DATA_AXIS, 1)


def replicate(array: jax.Array) -> jax.Array:
    """Asks for the whole array on every device of the current mesh."""
    if data_devices() == 1:
        return array
    return jax.lax.with_sharding_constraint(array, PartitionSpec())


def replicate_together(arrays: Sequence[jax.Array]) -> Sequence[jax.Array]:
    """Asks for whole arrays on every device, by one message; they are [B] and become floats."""
    if data_devices() == 1:
        return arrays
    together = replicate(jnp.stack(arrays, axis=1))
    return [replicate(array) for array in jnp.unstack(together, axis=1)]


def on_every_device(function: Callable[..., Any], *arguments: Any) -> Any:
    """Computes the same on every device of the mesh, which has its arguments whole."""
    if data_devices() == 1:
        return function(*arguments)
    whole = PartitionSpec()
    return jax.shard_map(function, in_specs=whole, out_specs=whole, check_vma=False)(*arguments)


def divide_rows(function: Callable[[Any, Any], Any], rows: Any, whole: Any) -> Any:
    """Computes `function(rows, whole)` with the rows divided over this process's devices.

    Each device works by itself, nothing is sent. For functions under `jax.jit`.

    Args:
        function: turns arrays [n, ...] and `whole` into arrays [n, ...].
        rows: pytree of arrays [B, ...], B a multiple of the number of devices.
        whole: pytree of arrays that every device has.

    Returns:
        The results of `function`, put together: arrays [B, ...].
    """
    mesh = local_mesh()
    if mesh.size == 1:
        return function(rows, whole)
    divided, replicated = PartitionSpec(DATA_AXIS), PartitionSpec()
    on_all_devices = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(divided, replicated),
        out_specs=divided,
        check_vma=False,  # the check is for derivatives, which are not taken through it
    )
    return on_all_devices(rows, whole)


def map_blocks(function: Callable[[Any, Any], Any], blocks: Any, whole: Any) -> Any:
    """Maps `function(block, whole)` over blocks, one after another on each device.

    Args:
        function: turns a block and `whole` into a pytree of arrays.
        blocks: pytree of arrays [number of blocks, ...], which the devices of the mesh share.
        whole: pytree of arrays that every block sees.

    Returns:
        The results of `function`, stacked: arrays [number of blocks, ...].
    """
    count = len(jax.tree.leaves(blocks)[0])
    devices = data_devices()

    def on_one_device(blocks: Any, whole: Any) -> Any:
        return jax.lax.map(lambda block: function(block, whole), blocks)

    if devices == 1:
        return on_one_device(blocks, whole)
    sharded, replicated = PartitionSpec(DATA_AXIS), PartitionSpec()
    on_all_devices = jax.shard_map(
        on_one_device,
        in_specs=(sharded, replicated),
        out_specs=sharded,
        check_vma=False,  # the check is for derivatives, which are not taken through it
    )
    outputs = on_all_devices(_pad(blocks, -count % devices), whole)
    return jax.tree.map(lambda a: a[:count], outputs)


def map_row_blocks(
    function: Callable[[Any, Any], Any], rows: Any, whole: Any, block_size: int
) -> Any:
    """Maps `function(block, whole)` over all rows, in blocks of at most `block_size`.

    Args:
        function: turns arrays [block, ...] and `whole` into arrays [block, ...].
        rows: pytree of arrays [B, ...], which the devices of the mesh share; padded with zeros to
            whole blocks.
        whole: pytree of arrays that every block sees.
        block_size: the most rows of a block.

    Returns:
        The results of `function`, the blocks put together: arrays [B, ...].
    """
    count = len(jax.tree.leaves(rows)[0])
    devices = data_devices()
    blocks = devices * -(-count // (devices * block_size))
    block = -(-count // blocks)
    split = jax.tree.map(
        lambda a: a.reshape(blocks, block, *a.shape[1:]), _pad(rows, blocks * block - count)
    )
    outputs = map_blocks(function, split, whole)
    return jax.tree.map(lambda a: a.reshape(blocks * block, *a.shape[2:])[:count], outputs)


def _pad(tree: Any, rows: int) -> Any:
    """Appends rows of zeros to every array."""
    if rows == 0:
        return tree
    return jax.tree.map(lambda a: jnp.pad(a, [(0, rows)] + [(0, 0)] * (a.ndim - 1)), tree)
