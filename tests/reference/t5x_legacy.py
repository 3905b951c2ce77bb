"""T5X's older checkpoints, written by hand from the zarr 2 and msgpack specifications.

Small leaves lie in the msgpack, each as Flax's extension type 1: msgpack of (shape, type, bytes).
The others are zarr folders `target.a.b.c`, with a `.zarray` and a gzipped file per chunk.
"""

import gzip
import itertools
import json
import math

import msgpack
import numpy as np


def write_zarr(folder, array, chunks, dtype):
    folder.mkdir(parents=True)
    (folder / ".zarray").write_text(
        json.dumps(
            {
                "chunks": chunks,
                "compressor": {"id": "gzip", "level": 1},
                "dtype": dtype,
                "fill_value": None,
                "filters": None,
                "order": "C",
                "shape": array.shape,
                "zarr_format": 2,
            }
        )
    )
    counts = [math.ceil(size / chunk) for size, chunk in zip(array.shape, chunks, strict=True)]
    for place in itertools.product(*map(range, counts)):
        part = array[tuple(slice(i * c, (i + 1) * c) for i, c in zip(place, chunks, strict=True))]
        # The last chunk of an axis is as long as the others.
        padding = [(0, c - s) for c, s in zip(chunks, part.shape, strict=True)]
        name = ".".join(map(str, place)) or "0"
        (folder / name).write_bytes(gzip.compress(np.pad(part, padding).tobytes()))


def packed(array):
    content = msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True)
    return msgpack.ExtType(1, content)


def write_legacy(folder, params, step, version=3, beside=lambda name: True):
    """Writes `folder/checkpoint` and the leaves for which `beside` is true beside it.

    Version 2 as it came from a bucket, with TensorStore's older form of a path: outside `kvstore`,
    with a slash at its end.
    """
    folder.mkdir(parents=True)
    target = {}
    for path, array in params.items():
        *parents, last = path.split("/")
        node = target
        for parent in parents:
            node = node.setdefault(parent, {})
        if not beside(path):
            node[last] = packed(array)
            continue
        name = f"target.{path.replace('/', '.')}"
        bits = array.dtype.itemsize * 8
        dtype = {"float32": "<f4", "bfloat16": "bfloat16"}[array.dtype.name]
        if dtype == "bfloat16" and version == 2:
            array, dtype = array.view(f"u{bits // 8}"), "<u2"
        chunks = [max(1, math.ceil(size / 2)) for size in array.shape]
        write_zarr(folder / name, array, chunks, dtype)
        old = {"kvstore": {"driver": "gcs", "bucket": "models"}, "path": f"t5/base/{name}/"}
        node[last] = {
            "driver": "zarr",
            "dtype": array.dtype.name,
            **(old if version == 2 else {"kvstore": {"driver": "gfile", "path": name}}),
            "metadata": {"chunks": chunks, "compressor": {"id": "gzip"}, "shape": array.shape},
        }
    state = {"step": packed(np.asarray(step, np.int32)), "param_states": {"x": packed(np.ones(2))}}
    content = {"version": version, "optimizer": {"target": target, "state": state}}
    (folder / "checkpoint").write_bytes(msgpack.packb(content, use_bin_type=True))
