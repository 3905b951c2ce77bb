"""Embeddings that the user brings, checked before anything is trained on them."""

import os

import numpy as np

from catid2_jax.errors import InputError


def read_embeddings(
    path: str | os.PathLike[str],
    count: int,
    of: str = "document of the catalogue",
    width: int = 0,
) -> np.ndarray:
    """Reads a .npy array of one row per document or query, in their file's order.

    Args:
        path: float16, float32 or float64 [count, D].
        count: number of documents or queries.
        of: what a row stands for, for messages.
        width: D, the width of the documents' embeddings; 0 for any.

    Returns:
        float32 [count, D].

    Raises:
        InputError: no such file, not a .npy array of floats, another shape, NaN or infinity
            (with the first such row).
    """
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except OSError as error:
        raise InputError(
            path, f"no readable file ({error.strerror or error})", "an .npy array of floats"
        ) from error
    except (ValueError, EOFError) as error:
        raise InputError(path, "no .npy array", "one of floats") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f":
        found = f"{getattr(array, 'dtype', '?')} {getattr(array, 'shape', '?')}"
        raise InputError(path, found, "floats [documents, width]")
    if len(array) != count:
        raise InputError(path, f"{len(array)} embeddings", f"{count}, one per {of} in its order")
    if width and array.shape[1] != width:
        raise InputError(
            path,
            f"embeddings of width {array.shape[1]}",
            f"{width}, that of the documents' embeddings, made by the same encoder",
        )
    embeddings = np.asarray(array, np.float32)
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if bad.size:
        raise InputError(
            path,
            f"NaN or infinity in {bad.size} rows, the first is row {bad[0]} (from 0)",
            "finite numbers",
        )
    return embeddings
