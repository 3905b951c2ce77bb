"""Latent semantic analysis: TF-IDF and a truncated SVD; needs no weights and no download."""

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from catid2_jax.data.words import without_accents, words
from catid2_jax.encoders.config import EmbeddingConfig
from catid2_jax.encoders.encoder import Encoder
from catid2_jax.errors import InputError
from catid2_jax.progress import console


def from_config(section: EmbeddingConfig, seed: int) -> Encoder:
    """The encoder "lsa"."""
    return LsaEncoder(section.dim, seed)


class LsaEncoder(Encoder):
    """Embeds a catalogue by the leading singular directions of its own TF-IDF matrix."""

    fits_catalog = True

    def __init__(self, dim: int, seed: int) -> None:
        """Sets the width.

        Args:
            dim: width asked for; a small catalogue has fewer directions and gets a narrower result.
            seed: seed of the randomised SVD (Halko et al., 2011).
        """
        self.dim, self.seed = dim, seed

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [N, at most dim], rows of unit norm; a text without a word is zero, and counted.

        Raises:
            InputError: no text has a word.
        """
        try:
            counts = TfidfVectorizer(sublinear_tf=True, analyzer=_words).fit_transform(texts)
        except ValueError as error:  # an empty vocabulary
            raise InputError("encoder", "'lsa' and no word in any text", "another one") from error
        blank = int(np.count_nonzero(np.diff(counts.indptr) == 0))
        if blank:
            console.print(f"{blank:,} of {len(texts):,} texts have no word and a vector of zeros")
        width = min(self.dim, min(counts.shape) - 1)
        if width < 1:
            return np.ones((len(texts), 1), np.float32)
        projected = TruncatedSVD(width, random_state=self.seed).fit_transform(counts)
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        return (projected / np.maximum(norms, 1e-12)).astype(np.float32)


def _words(text: str) -> list[str]:
    return words(without_accents(text.lower()))
