"""Latent semantic analysis: TF-IDF and a truncated SVD; needs no weights and no download."""

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer


def lsa_embeddings(texts: Sequence[str], dim: int, seed: int) -> np.ndarray:
    """Embeds texts by the leading singular directions of their TF-IDF matrix.

    Args:
        texts: N texts.
        dim: width asked for; a small corpus has fewer directions, then the result is narrower.
        seed: of the randomised SVD (Halko et al., 2011).

    Returns:
        float32 [N, at most dim], rows of unit norm (a text without a known word is zero).
    """
    counts = TfidfVectorizer(sublinear_tf=True, strip_accents="unicode").fit_transform(texts)
    width = min(dim, min(counts.shape) - 1)
    if width < 1:
        return np.ones((len(texts), 1), np.float32)
    projected = TruncatedSVD(width, random_state=seed).fit_transform(counts)
    norms = np.linalg.norm(projected, axis=1, keepdims=True)
    return (projected / np.maximum(norms, 1e-12)).astype(np.float32)
