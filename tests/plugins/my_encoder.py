"""An encoder of one's own: hashed character n-grams."""

import zlib
from collections.abc import Sequence

import numpy as np

import catid2_jax


class MyEncoder(catid2_jax.Encoder):
    """Counts the n-grams of a text in `dim` buckets."""

    def __init__(self, dim: int = 64, n: int = 3) -> None:
        self.dim, self.n = dim, n
        self.key = f"n-grams {dim} {n}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            for start in range(len(text)):
                gram = text[start : start + self.n].lower().encode()
                vectors[row, zlib.crc32(gram) % self.dim] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
