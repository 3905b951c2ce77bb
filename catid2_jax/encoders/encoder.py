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

from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write, write_npy_blocks
from catid2_jax.processes import is_first, wait_for_all
from catid2_jax.progress import Progress, console

_SHORTEST = 16  # tokens of the narrowest batch


class Encoder(Protocol):
    """What turns texts into vectors. An encoder of your own subclasses this and writes `encode`.

    Attributes:
        fits_catalog: whether `encode` learns from the texts that it is given, so that it can encode
            a whole catalogue and nothing else, no query and no product that comes later.
        key: a text that differs from that of every encoder that gives other vectors; vectors that
            an earlier, killed run left are used again where it is the same. Empty: never.
        max_tokens: the length at which it cuts texts whose tokens it counts.
    """

    fits_catalog: bool = False
    key: str = ""
    max_tokens: int = 0

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of N texts, float [N, D], each row by its text alone unless `fits_catalog`."""
        ...

    def encode_and_count(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
        """`encode`, and the tokens of each text before any cut, [N]; None if there are none."""
        return self.encode(texts), None

    def for_queries(self) -> "Encoder":
        """The same encoder for texts that are queries and not documents."""
        return self


class TokenEncoder(Protocol):
    """A network that encodes batches of tokenised texts; `BatchedEncoder` makes it an `Encoder`.

    Attributes:
        key: a text that differs from that of every network that gives other vectors.
        max_tokens: the length at which longer texts are cut.
    """

    key: str
    max_tokens: int

    def tokenize(self, texts: Sequence[str]) -> tuple[Sequence[Any], np.ndarray]:
        """What `encode_batch` takes for each text, and the texts' tokens before the cut, [N]."""

    def encode_batch(self, items: Sequence[Any], rows: int, width: int) -> np.ndarray:
        """Vectors of some texts, which are at most `rows` and at most `width` tokens long.

        Rows and widths take few different values, so that a network compiled by shape can pad to
        them.

        Returns:
            [len(items), D], each row by its text alone, whatever the others are.
        """

    def for_queries(self) -> "TokenEncoder":
        """The same network for texts that are queries and not documents."""


class BatchedEncoder(Encoder):
    """A `TokenEncoder` over texts of any number: those of like length share a batch."""

    def __init__(self, network: TokenEncoder, batch_tokens: int) -> None:
        """Wraps a network.

        Args:
            network: encodes a batch.
            batch_tokens: tokens of a batch, padding included.
        """
        self.network, self.batch_tokens = network, batch_tokens
        self.key, self.max_tokens = network.key, network.max_tokens

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of the texts, float32 [N, D]."""
        return self.encode_and_count(texts)[0]

    def encode_and_count(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors, and the tokens of each text before it was cut, [N]."""
        return encode_texts(texts, self.network, self.batch_tokens)

    def for_queries(self) -> "BatchedEncoder":
        """The network as it reads queries."""
        return BatchedEncoder(self.network.for_queries(), self.batch_tokens)


def encode_texts(
    texts: Sequence[str], encoder: TokenEncoder, batch_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Encodes texts, those of like length together in a batch.

    Args:
        texts: N texts.
        encoder: the network.
        batch_tokens: tokens of a batch, padding included.

    Returns:
        float32 [N, D], and the tokens of each text before it was cut, [N].
    """
    items, tokens = encoder.tokenize(texts)
    parts, order = [], []
    for batch, rows, width in _batches(tokens, encoder.max_tokens, batch_tokens):
        parts.append(
            np.asarray(encoder.encode_batch([items[i] for i in batch], rows, width), np.float32)
        )
        order.append(batch)
    inverse = np.argsort(np.concatenate(order))
    return np.concatenate(parts)[inverse], tokens


def embed_in_shards(
    texts: Sequence[str], encoder: Encoder, output: pathlib.Path, shard_documents: int
) -> np.ndarray | None:
    """Writes the vectors of texts, shard after shard; shards that are there already stay.

    A shard knows its texts and its encoder, so that none of another catalogue, configuration or
    network is taken for one's own. With several processes, which all call this with the same
    arguments and see the same disk, each makes its share of the shards, and the first joins them.

    Args:
        texts: N texts.
        encoder: makes the vectors; one that `fits_catalog` gets all texts in one shard.
        output: .npy, float32 [N, D], written whole or not at all; the shards lie beside it until
            then.
        shard_documents: texts per shard.

    Returns:
        The tokens of each text before it was cut, [N]; None if the encoder counts none.

    Raises:
        InputError: the encoder gave another number of vectors, or one that is not finite.
    """
    folder = output.with_suffix(".shards")
    size = len(texts) if encoder.fits_catalog else shard_documents
    shards = {
        folder / f"{number:05}.npz": texts[start : start + size]
        for number, start in enumerate(range(0, len(texts), size))
    }
    _encode_share(shards, encoder)
    wait_for_all("shards are written")
    tokens = np.concatenate([_read(shard, "tokens") for shard in shards])
    if is_first():
        _join(list(shards), output, len(texts))
    wait_for_all("shards are joined")
    if is_first():
        shutil.rmtree(folder)
    return None if (tokens < 0).any() else tokens


def check_vectors(vectors: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """What an encoder made of texts as float32 [N, D].

    Raises:
        InputError: another shape, NaN or infinity, with the first such text.
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or len(vectors) != len(texts) or vectors.dtype.kind != "f":
        raise InputError(
            "encoder",
            f"{vectors.dtype} {vectors.shape} for {len(texts)} texts",
            f"floats [{len(texts)}, width]",
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise InputError(
            "encoder",
            f"NaN or infinity in the vector of {texts[bad[0]]!r:.60}",
            "finite numbers: another encoder",
        )
    return vectors.astype(np.float32, copy=False)


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


def _encode_share(shards: dict[pathlib.Path, Sequence[str]], encoder: Encoder) -> None:
    """Makes those of this process's shards, given by their texts, that are not there."""
    parts = dict(list(shards.items())[jax.process_index() :: jax.process_count()])
    keys = {
        path: fingerprint(json.dumps([encoder.key, *part]).encode()) for path, part in parts.items()
    }
    missing = [path for path in parts if not (encoder.key and _is_done(path, keys[path]))]
    if len(missing) < len(parts):
        console.print(f"{len(parts) - len(missing)} of {len(parts)} shards were there already")
    total = sum(map(len, parts.values()))
    left = sum(len(parts[path]) for path in missing)
    with Progress("embedding", total, total - left) as progress:
        for path in missing:
            start = time.monotonic()
            vectors, tokens = encoder.encode_and_count(parts[path])
            vectors = check_vectors(vectors, parts[path])
            if tokens is None:
                tokens = np.full(len(vectors), -1)
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
            path, "no shard of the embeddings", "one; do all processes see the same disk?"
        ) from error


def _join(shards: Sequence[pathlib.Path], output: str | os.PathLike[str], documents: int) -> None:
    """One .npy of all shards' vectors, of which one at a time is in memory."""
    width = _read(shards[0], "vectors").shape[1]
    blocks = (_read(shard, "vectors") for shard in shards)
    write_npy_blocks(output, blocks, (documents, width))
