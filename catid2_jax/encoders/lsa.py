"""Latent semantic analysis: TF-IDF and a truncated SVD; needs no weights and no download."""

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from catid2_jax.encoders.config import EmbeddingConfig
from catid2_jax.encoders.encoder import Encoder


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
        """float32 [N, at most dim], rows of unit norm; a text without a known word is zero."""
        counts = TfidfVectorizer(sublinear_tf=True, strip_accents="unicode").fit_transform(texts)
        width = min(self.dim, min(counts.shape) - 1)
        if width < 1:
            return np.ones((len(texts), 1), np.float32)
        projected = TruncatedSVD(width, random_state=self.seed).fit_transform(counts)
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        return (projected / np.maximum(norms, 1e-12)).astype(np.float32)
