"""Reads T5X's checkpoints, Orbax and the older msgpack with zarr arrays, and writes Orbax."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.serialization
import flax.traverse_util
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from catid2_jax.checkpoints.tree import Checkpoint, unflatten
from catid2_jax.errors import InputError


def read_t5x(folder: pathlib.Path) -> tuple[dict[str, np.ndarray], int]:
    """Reads the parameters and the step of a `checkpoint_N` of either kind.

    Raises:
        InputError: a leaf, which it names, is missing or cannot be read.
    """
    if (folder / "state").is_dir():
        leaves = read_orbax(folder / "state", ("target", "state/step"))
    else:
        leaves = _read_legacy(folder / "checkpoint")
    if "state/step" not in leaves:
        raise InputError(folder, "no state/step", "a checkpoint of T5X")
    step = int(leaves.pop("state/step"))
    return {name.removeprefix("target/"): leaf for name, leaf in leaves.items()}, step


def read_orbax(folder: pathlib.Path, parts: Sequence[str]) -> dict[str, np.ndarray]:
    """Reads some leaves of a tree that Orbax wrote.

    Args:
        folder: the tree's folder.
        parts: names of leaves, or of subtrees whose leaves are all wanted.

    Returns:
        Leaves by their paths `a/b/c`.

    Raises:
        InputError: the tree or a leaf, which it names, cannot be read.
    """
    # Either all arrays lie in one database, or each in a folder.
    database = (folder / "manifest.ocdbt").is_file()
    store = {"driver": "ocdbt", "base": f"file://{folder}/"}
    if not database:
        store = {"driver": "file", "path": f"{folder}/"}
    try:
        keys = tensorstore.KvStore.open(store).result().list().result()
    except ValueError as error:
        raise InputError(
            folder, f"no readable tree ({_first_line(error)})", "a whole Orbax checkpoint"
        ) from error
    arrays = [key.decode().removesuffix("/.zarray") for key in keys if key.endswith(b"/.zarray")]
    places = {
        array.replace(".", "/"): store | {"path": f"{'' if database else f'{folder}/'}{array}/"}
        for array in arrays
    }
    wanted = {
        name: place
        for name, place in places.items()
        if any(name == part or name.startswith(f"{part}/") for part in parts)
    }
    return _read_zarr(folder, wanted)


def write_t5x(folder: pathlib.Path, checkpoint: Checkpoint) -> None:
    """Writes `checkpoint_N` as T5X does, without an optimizer's state.

    T5X restores it with `RestoreCheckpointConfig.fallback_to_scratch = True` and
    `assignment_map = []`, and then starts with a new optimizer's state.
    """
    tree = {
        "target": unflatten(checkpoint.params),
        "state": {"step": np.asarray(checkpoint.step, np.int32)},
    }
    options = ocp.CheckpointManagerOptions(
        step_prefix="checkpoint", enable_async_checkpointing=False
    )
    with ocp.CheckpointManager(folder, item_names=("state",), options=options) as manager:
        manager.save(checkpoint.step, args=ocp.args.Composite(state=ocp.args.PyTreeSave(tree)))


def _read_legacy(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads `target` and `state/step` of `{version: 2 | 3, optimizer: {target, state}}`."""
    try:
        contents = flax.serialization.msgpack_restore(path.read_bytes())
    except OSError as error:
        raise InputError(
            path, f"no readable file ({error.strerror})", "a checkpoint of T5X"
        ) from error
    except ValueError as error:
        raise InputError(
            path, f"no whole msgpack ({_first_line(error)})", "a checkpoint of T5X"
        ) from error
    version = contents.get("version") if isinstance(contents, dict) else None
    if version not in (2, 3):
        raise InputError(path, f"version {version}", "T5X's 2 or 3")
    leaves = flax.traverse_util.flatten_dict(
        contents.get("optimizer", {}), is_leaf=lambda _, leaf: "kvstore" in leaf, sep="/"
    )
    wanted = {n: x for n, x in leaves.items() if n == "state/step" or n.startswith("target/")}
    beside = {
        name: {"driver": "file", "path": f"{path.parent / _place(leaf)}/"}
        for name, leaf in wanted.items()
        if isinstance(leaf, dict)
    }
    arrays = wanted | _read_zarr(path.parent, beside)
    # Version 2 stores bfloat16 as the integers of its bits.
    return {
        name: array.view(ml_dtypes.bfloat16) if array.dtype == np.uint16 else array
        for name, array in arrays.items()
    }


def _place(spec: Mapping[str, Any]) -> str:
    """Returns the name of an array's folder; the rest of its path is where it was once written."""
    return pathlib.PurePosixPath(spec["kvstore"].get("path") or spec["path"]).name


def _read_zarr(folder: pathlib.Path, places: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Reads arrays by name from their key-value stores, all at once.

    Raises:
        InputError: an array, which it names, cannot be read.
    """
    # A missing chunk is an error, not zeros.
    strict = {"driver": "zarr", "fill_missing_data_reads": False}
    opening = {name: tensorstore.open(strict | {"kvstore": p}) for name, p in places.items()}
    reading = {name: _result(folder, name, future).read() for name, future in opening.items()}
    return {name: _result(folder, name, future) for name, future in reading.items()}


def _result(folder: pathlib.Path, name: str, future: Any) -> Any:
    try:
        return future.result()
    except ValueError as error:
        raise InputError(
            folder, f"no readable {name} ({_first_line(error)})", "a whole zarr array"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
