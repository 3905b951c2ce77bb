"""Texts to vectors by any encoder: batched by length, in shards on disk that outlive a kill."""

import hashlib
import json
import os
import pathlib
import shutil
import time
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write
from catid2_jax.progress import Progress, console

_SHORTEST = 16  # tokens of the narrowest batch


class Encoder(Protocol):
    """What turns texts into vectors.

    Attributes:
        key: differs from that of every encoder that gives other vectors.
        max_tokens: longer texts are cut there.
    """

    key: str
    max_tokens: int

    def tokenize(self, texts: Sequence[str]) -> tuple[Sequence[Any], np.ndarray]:
        """What `encode` takes for each text, and the texts' tokens before they are cut, [N]."""

    def encode(self, items: Sequence[Any], rows: int, width: int) -> np.ndarray:
        """Vectors of some texts, which are at most `rows` and at most `width` tokens long.

        Rows and widths are few different ones, so that what compiles by shape can fill them up.

        Returns:
            [len(items), D], each row by its text alone, whatever the others are.
        """

    def for_queries(self) -> "Encoder":
        """The same for texts that are queries and not documents."""


def encode_texts(
    texts: Sequence[str], encoder: Encoder, batch_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of texts, those of like length together.

    Args:
        texts: N texts.
        encoder: makes the vectors.
        batch_tokens: of a batch, padding included.

    Returns:
        float32 [N, D], and the tokens of each text before it was cut, [N].

    Raises:
        InputError: the encoder gave NaN or infinity.
    """
    items, tokens = encoder.tokenize(texts)
    parts, order = [], []
    for batch, rows, width in _batches(tokens, encoder.max_tokens, batch_tokens):
        vectors = np.asarray(encoder.encode([items[i] for i in batch], rows, width), np.float32)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if bad.size:
            raise InputError(
                f"found NaN or infinity in the vector of {texts[batch[bad[0]]]!r:.60}, expected "
                "finite numbers: another encoder"
            )
        parts.append(vectors)
        order.append(batch)
    inverse = np.argsort(np.concatenate(order))
    return np.concatenate(parts)[inverse], tokens


def embed_in_shards(
    texts: Sequence[str],
    encoder: Encoder,
    output: pathlib.Path,
    batch_tokens: int,
    shard_documents: int,
) -> np.ndarray:
    """Writes the vectors of texts, shard after shard; those that are there already stay.

    A shard knows its texts and its encoder, so that none of another catalogue, configuration or
    network is taken for one's own. With several processes, which all call this with the same
    arguments and see the same disk, each makes its share of the shards, and the first joins them.

    Args:
        texts: N texts.
        encoder: makes the vectors.
        output: .npy, float32 [N, D], written whole or not at all; the shards lie beside it until
            then.
        batch_tokens: as in `encode_texts`.
        shard_documents: of each shard.

    Returns:
        The tokens of each text before it was cut, [N].
    """
    folder = output.with_suffix(".shards")
    shards = {
        folder / f"{number:05}.npz": texts[start : start + shard_documents]
        for number, start in enumerate(range(0, len(texts), shard_documents))
    }
    _encode_share(shards, encoder, batch_tokens)
    _wait_for_all("shards are written")
    tokens = np.concatenate([_read(shard, "tokens") for shard in shards])
    if jax.process_index() == 0:
        _join(list(shards), output, len(texts))
    _wait_for_all("shards are joined")
    if jax.process_index() == 0:
        shutil.rmtree(folder)
    return tokens


def fingerprint(*parts: bytes | np.ndarray) -> str:
    """A short digest of all parts, in this order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part if isinstance(part, bytes) else part.tobytes()
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
        digest.update(f"{len(raw)}:".encode())
        digest.update(raw)
    return digest.hexdigest()


def _batches(
    tokens: np.ndarray, max_tokens: int, batch_tokens: int
) -> Iterator[tuple[np.ndarray, int, int]]:
    """(rows of the texts, most rows, width) of each batch, the longest texts first."""
    kept = np.minimum(tokens, max_tokens)
    order = np.argsort(-kept, kind="stable")
    devices = jax.local_device_count()
    start = 0
    while start < len(order):
        width = min(_padded(int(kept[order[start]])), max_tokens)
        rows = max(batch_tokens // width // devices, 1) * devices
        yield order[start : start + rows], rows, width
        start += rows


def _padded(length: int) -> int:
    """The next of 16, 24, 32, 48, 64, 96, ...: few widths, and a third of padding at most."""
    width = _SHORTEST
    while width < length:
        width = width * 3 // 2 if width & (width - 1) == 0 else width * 4 // 3
    return width


def _encode_share(
    shards: dict[pathlib.Path, Sequence[str]], encoder: Encoder, batch_tokens: int
) -> None:
    """Makes those of this process's shards, given by their texts, that are not there."""
    parts = dict(list(shards.items())[jax.process_index() :: jax.process_count()])
    keys = {
        path: fingerprint(json.dumps([encoder.key, *part]).encode()) for path, part in parts.items()
    }
    missing = [path for path in parts if not _is_done(path, keys[path])]
    if len(missing) < len(parts):
        console.print(f"{len(parts) - len(missing)} of {len(parts)} shards were there already")
    total = sum(map(len, parts.values()))
    left = sum(len(parts[path]) for path in missing)
    with Progress("embedding", total, total - left) as progress:
        for path in missing:
            start = time.monotonic()
            vectors, tokens = encode_texts(parts[path], encoder, batch_tokens)
            with atomic_write(path, "wb", own=True) as file:
                np.savez(file, vectors=vectors, tokens=tokens, key=np.array(keys[path]))
            rate = len(vectors) / (time.monotonic() - start)
            progress.advance(len(vectors), {"documents/s": rate})


def _is_done(path: pathlib.Path, key: str) -> bool:
    try:
        return str(_read(path, "key")) == key
    except InputError:
        return False


def _read(path: pathlib.Path, name: str) -> np.ndarray:
    try:
        with open(path, "rb") as file:  # NumPy itself leaves a damaged one open
            return np.load(file, allow_pickle=False)[name]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: found no shard of the embeddings, expected one; do all processes see the "
            "same disk?"
        ) from error


def _join(shards: Sequence[pathlib.Path], output: str | os.PathLike[str], documents: int) -> None:
    """One .npy of all shards' vectors, of which one at a time is in memory."""
    width = _read(shards[0], "vectors").shape[1]
    with atomic_write(output, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (documents, width)}
        )
        for shard in shards:
            file.write(_read(shard, "vectors").astype("<f4").tobytes())


def _wait_for_all(moment: str) -> None:
    """Returns when all processes have come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(moment)
