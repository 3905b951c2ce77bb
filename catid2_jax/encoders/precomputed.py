"""Embeddings that the user brings, checked before anything is trained on them."""

import os
from collections.abc import Iterator

import numpy as np

from catid2_jax.errors import InputError

_ROWS_AT_ONCE = 16_384


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
    shape = (count, embedding_width(path, count, of, width))
    embeddings, start = np.empty(shape, np.float32), 0
    for block in embedding_blocks(path, count):
        embeddings[start : start + len(block)] = block
        start += len(block)
    return embeddings


def embedding_blocks(path: str | os.PathLike[str], count: int) -> Iterator[np.ndarray]:
    """Reads what `embedding_width` has checked, one block in memory at a time.

    Yields:
        float32 [rows, D], in order.

    Raises:
        InputError: NaN or infinity, after the last block.
    """
    bad, first = 0, -1
    for start in range(0, count, _ROWS_AT_ONCE):
        # Mapped anew, so that what was read does not stay in the process.
        rows = np.load(path, allow_pickle=False, mmap_mode="r")[start : start + _ROWS_AT_ONCE]
        block = np.array(rows, np.float32)
        del rows
        wrong = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if wrong.size and not bad:
            first = start + wrong[0]
        bad += wrong.size
        yield block
    if bad:
        raise InputError(
            path,
            f"NaN or infinity in {bad} rows, the first is row {first} (from 0)",
            "finite numbers",
        )


def embedding_width(
    path: str | os.PathLike[str],
    count: int,
    of: str = "document of the catalogue",
    width: int = 0,
) -> int:
    """Returns the width of the embeddings in a file, of which it reads the header.

    Raises:
        InputError: whatever `read_embeddings` refuses, but for NaN and infinity.
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
    return int(array.shape[1])
