"""Embeddings that the user brings, checked before anything is trained on them."""

import os

import numpy as np

from catid2_jax.errors import InputError


def read_embeddings(
    path: str | os.PathLike[str], count: int, of: str = "document of the catalogue", width: int = 0
) -> np.ndarray:
    """Reads a .npy array of one row per document or query, in their file's order.

    Args:
        path: float16, float32 or float64 [count, D].
        count: documents or queries.
        of: what there is a row of, for the messages.
        width: D, that of the documents' embeddings; 0 for any.

    Returns:
        float32 [count, D].

    Raises:
        InputError: no such file, not a .npy array of floats, another shape, NaN or infinity
            (with the first such row).
    """
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: found no .npy array, expected one of floats") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f":
        found = f"{getattr(array, 'dtype', '?')} {getattr(array, 'shape', '?')}"
        raise InputError(f"{path}: found {found}, expected floats [documents, width]")
    if len(array) != count:
        raise InputError(
            f"{path}: found {len(array)} embeddings, expected {count}, one per {of} in its order"
        )
    if width and array.shape[1] != width:
        raise InputError(
            f"{path}: found embeddings of width {array.shape[1]}, expected {width}, that of the "
            "documents' embeddings, made by the same encoder"
        )
    embeddings = np.asarray(array, np.float32)
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if bad.size:
        raise InputError(
            f"{path}: found NaN or infinity in {bad.size} rows, the first is row {bad[0]} "
            "(from 0), expected finite numbers"
        )
    return embeddings
