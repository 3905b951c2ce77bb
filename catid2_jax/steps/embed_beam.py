"""The step `embed` as a pipeline of Apache Beam, on as many machines as its runner has.

The pipeline writes the shards that the verb `embed` would write; the verb, run after it, finds
them, joins them and embeds the queries. Needs the extra `beam`.
"""

import os
import pathlib
from collections.abc import Iterator

import apache_beam as beam

from catid2_jax.config import Config
from catid2_jax.data.corpus import CatalogFile
from catid2_jax.encoders.config import EmbeddingConfig
from catid2_jax.encoders.encoder import shards_of, write_shard
from catid2_jax.encoders.registry import make_encoder
from catid2_jax.encoders.text import document_texts
from catid2_jax.errors import InputError
from catid2_jax.workdir import shared_place


def embed_shards(config: Config, workdir: str | os.PathLike[str]) -> beam.PTransform:
    """Makes a transform that embeds the catalogue of a work directory, shard by shard.

    Args:
        config: its section `embedding` and its seed are read.
        workdir: with `prepare` done, on a disk that all workers see; no verb may run there
            meanwhile.

    Returns:
        A transform from a pipeline to the number of products of each shard.

    Raises:
        InputError: an encoder whose shards are never used again (one without a `key`, as "lsa"), no
            catalogue, or whatever the encoder refuses.
    """
    section, place = config.embedding, shared_place(pathlib.Path(workdir))
    if not make_encoder(section, config.seed).key:
        raise InputError("config.embedding.encoder", repr(section.encoder), "one with a key")
    documents = len(CatalogFile(place.workdir.catalog))
    shards = shards_of(place.embeddings, documents, section.shard_documents)
    return (
        beam.Create(list(shards.items()))
        | beam.Reshuffle()
        | beam.ParDo(_EmbedShard(section, config.seed, place.workdir.catalog))
    )


class _EmbedShard(beam.DoFn):
    def __init__(self, section: EmbeddingConfig, seed: int, catalog: pathlib.Path) -> None:
        self.section, self.seed, self.catalog = section, seed, catalog

    def setup(self) -> None:
        """Makes the encoder, once per worker."""
        section = self.section
        self.encoder, products = make_encoder(section, self.seed), CatalogFile(self.catalog)
        self.texts, _ = document_texts(products, section.text_fields, section.field_characters)

    def process(self, shard: tuple[pathlib.Path, slice]) -> Iterator[int]:
        """Writes a shard."""
        path, rows = shard
        write_shard(self.texts, path, rows, self.encoder)
        yield rows.stop - rows.start
