"""The products' embeddings and their encoder, for clusters that are ranked by dense scores."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from catid2_jax import api
from catid2_jax.data.corpus import Catalog
from catid2_jax.encoders.config import PRECOMPUTED, EmbeddingConfig
from catid2_jax.encoders.encoder import Encoder, check_vectors
from catid2_jax.encoders.registry import make_encoder
from catid2_jax.encoders.text import document_texts
from catid2_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Dense:
    """Embeddings of the products of one version.

    Attributes:
        embeddings: float32 [N, D], in the order of the catalogue.
        section: which fields of a product are encoded.
        encoder: encodes them.
        query_encoder: the same encoder for queries.
    """

    embeddings: np.ndarray
    section: EmbeddingConfig
    encoder: Encoder
    query_encoder: Encoder

    def of_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of queries, float32 [Q, D]."""
        return check_vectors(self.query_encoder.encode(texts), texts)

    def changed(self, kept: np.ndarray, new: Catalog) -> "Dense":
        """The embeddings of the products that are kept, bool [N], and of new ones after them."""
        embeddings = self.embeddings[kept]
        if len(new):
            section = self.section
            texts, _ = document_texts(new, section.text_fields, section.field_characters)
            vectors = check_vectors(self.encoder.encode(texts[:]), texts)
            embeddings = np.concatenate([embeddings, vectors])
        return dataclasses.replace(self, embeddings=embeddings)


def load_dense(path: str | os.PathLike[str], system: str) -> Dense:
    """The embeddings of a finished work directory.

    Raises:
        InputError: it has none, as a bundle, or they are by an encoder that encodes no queries.
    """
    embeddings, section = api.load_embeddings(path, system)
    encoder = None if section.encoder == PRECOMPUTED else make_encoder(section)
    if encoder is None or encoder.fits_catalog:
        raise InputError(
            "cluster_level",
            f"embeddings by {section.encoder!r}, which encodes no queries",
            "those of a network, or cluster_level = 0",
        )
    return Dense(np.asarray(embeddings), section, encoder, encoder.for_queries())
