"""Texts to vectors by any encoder: batched by length, in shards on disk that outlive a kill."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


@dataclasses.dataclass(frozen=True)
class TokenCounts:
    """How long texts are, and how much of them an encoder cut off.

    Attributes:
        tokens: tokens of all texts before any cut.
        tokens_cut: those beyond the encoder's `max_tokens`.
        texts_cut: texts that are longer.
    """

    tokens: int
    tokens_cut: int
    texts_cut: int


def embed_in_shards(
    texts: Sequence[str], encoder: Encoder, output: pathlib.Path, shard_documents: int
) -> TokenCounts | None:
    """Writes the vectors of texts, shard after shard; shards that are there already stay.

    A shard knows its texts and its encoder, so that none of another catalogue, configuration or
    network is taken for one's own. With several processes, which all call this with the same
    arguments and see the same disk, each makes its share of the shards, and the first joins them.

    Args:
        texts: N texts, of which a shard at a time is asked for by a slice.
        encoder: makes the vectors; one that `fits_catalog` gets all texts in one shard.
        output: .npy, float32 [N, D], written whole or not at all; the shards lie beside it until
            then.
        shard_documents: texts per shard.

    Returns:
        How much was cut; None if the encoder counts no tokens.

    Raises:
        InputError: the encoder gave another number of vectors, or one that is not finite.
    """
    size = len(texts) if encoder.fits_catalog else shard_documents
    shards = shards_of(output, len(texts), size)
    _encode_share(texts, shards, encoder)
    wait_for_all("shards are written")
    counts = _count_tokens(shards, encoder.max_tokens)
    if is_first():
        _join(list(shards), output, len(texts))
    wait_for_all("shards are joined")
    if is_first():
        shutil.rmtree(_folder(output))
    return counts


def shards_of(output: pathlib.Path, documents: int, size: int) -> dict[pathlib.Path, slice]:
    """The shards of an output and the rows of each, `size` but for the last."""
    return {
        _folder(output) / f"{number:05}.npz": slice(start, min(start + size, documents))
        for number, start in enumerate(range(0, documents, size))
    }


def write_shard(texts: Sequence[str], path: pathlib.Path, rows: slice, encoder: Encoder) -> None:
    """Makes a shard of some rows of the texts.

    Raises:
        InputError: the encoder gave another number of vectors, or one that is not finite.
    """
    part = texts[rows]
    vectors, tokens = encoder.encode_and_count(part)
    vectors = check_vectors(vectors, part)
    if tokens is None:
        tokens = np.full(len(vectors), -1)
    with atomic_write(path, "wb", own=True) as file:
        np.savez(file, vectors=vectors, tokens=tokens, key=np.array(_key(encoder, part)))


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


def _encode_share(
    texts: Sequence[str], shards: Mapping[pathlib.Path, slice], encoder: Encoder
) -> None:
    """Makes those of this process's shards, given by their rows, that are not there."""
    parts = dict(list(shards.items())[jax.process_index() :: jax.process_count()])
    missing = {
        path: rows for path, rows in parts.items() if not _is_done(path, texts, rows, encoder)
    }
    if len(missing) < len(parts):
        console.print(f"{len(parts) - len(missing)} of {len(parts)} shards were there already")
    total, left = (sum(rows.stop - rows.start for rows in s.values()) for s in (parts, missing))
    with Progress("embedding", total, total - left) as progress:
        for path, rows in missing.items():
            start = time.monotonic()
            write_shard(texts, path, rows, encoder)
            written = rows.stop - rows.start
            rate = written / (time.monotonic() - start)
            progress.advance(written, {"documents/s": rate})


def _is_done(path: pathlib.Path, texts: Sequence[str], rows: slice, encoder: Encoder) -> bool:
    """Whether a shard is there, of these rows of the texts and this encoder."""
    if not (encoder.key and path.exists()):
        return False
    try:
        return str(_read(path, "key")) == _key(encoder, texts[rows])
    except InputError:
        return False


def _folder(output: pathlib.Path) -> pathlib.Path:
    return output.with_suffix(".shards")


def _key(encoder: Encoder, part: Sequence[str]) -> str:
    return fingerprint(json.dumps([encoder.key, *part]).encode()) if encoder.key else ""


def _count_tokens(shards: Iterable[pathlib.Path], max_tokens: int) -> TokenCounts | None:
    totals = np.zeros(3, np.int64)
    for shard in shards:
        tokens = _read(shard, "tokens")
        if (tokens < 0).any():
            return None
        lost = np.maximum(tokens - max_tokens, 0)
        totals += tokens.sum(), lost.sum(), np.count_nonzero(lost)
    return TokenCounts(*totals.tolist())


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
