"""Step 2: an embedding per product."""

import json

import jax
import numpy as np

from catid2_jax.checkpoints.folder import read_checkpoint
from catid2_jax.checkpoints.tokenizer import PIECES
from catid2_jax.checkpoints.tree import unflatten
from catid2_jax.config import Config, EmbeddingConfig
from catid2_jax.data.catalog import read_catalog
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.embedding.encoder import Encoder, embed_in_shards
from catid2_jax.embedding.lsa import lsa_embeddings
from catid2_jax.embedding.precomputed import read_embeddings
from catid2_jax.embedding.sentence_transformers import SentenceTransformersEncoder
from catid2_jax.embedding.t5 import T5Encoder
from catid2_jax.embedding.text import document_texts
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write, write_json, write_npy
from catid2_jax.progress import console
from catid2_jax.steps.workdir import Workdir


def run(config: Config, workdir: Workdir) -> None:
    """Writes `embeddings.npy` and the ids of its rows, in the preprocessed catalogue's order."""
    products = read_catalog(workdir.data / "catalog.jsonl")
    section = config.embedding
    if section.encoder == "precomputed":
        source = json.loads((workdir.data / "source.json").read_text(encoding="utf-8"))
        rows = np.load(workdir.data / "rows.npy", allow_pickle=False)
        write_npy(workdir.embeddings, read_embeddings(section.path, source["products"])[rows])
    else:
        texts, cut = document_texts(products, section.text_fields, section.field_characters)
        if section.field_characters:
            console.print(f"{cut:,} fields are longer than {section.field_characters} characters")
        if section.encoder == "lsa":
            console.print(f"embedding {len(texts):,} products by TF-IDF and truncated SVD ...")
            write_npy(workdir.embeddings, lsa_embeddings(texts, section.dim, config.seed))
        else:
            _encode(section, workdir, texts, cut)
    if jax.process_index() == 0:
        with atomic_write(workdir.embeddings.with_suffix(".ids.txt")) as file:
            file.writelines(f"{product.id}\n" for product in products)


def make_encoder(section: EmbeddingConfig) -> Encoder:
    """The network that turns texts into vectors.

    Raises:
        InputError: no such checkpoint or model, no vocabulary for it or one of more pieces than it
            has rows, or sentence-transformers is missing.
    """
    if section.encoder == "sentence_transformers":
        return SentenceTransformersEncoder(section.path, section.max_tokens)
    checkpoint = read_checkpoint(section.path)
    path = section.vocabulary or checkpoint.vocabulary
    if not path:
        raise InputError(
            f"{section.path}: found no {PIECES}, expected it there or config.embedding.vocabulary"
        )
    vocabulary = Vocabulary(path, 0, 0)
    if vocabulary.pieces > checkpoint.rows:
        raise InputError(
            f"{path}: found {vocabulary.pieces} pieces, expected at most the {checkpoint.rows} "
            f"rows of {section.path}"
        )
    return T5Encoder(
        checkpoint.config,
        unflatten(checkpoint.params),
        lambda text: [*vocabulary.text_ids(text), vocabulary.end],
        vocabulary.model,
        section.max_tokens,
    )


def _encode(section: EmbeddingConfig, workdir: Workdir, texts: list[str], cut: int) -> None:
    """Embeds with a network, and says and keeps what was cut off."""
    encoder = make_encoder(section)
    tokens = embed_in_shards(
        texts, encoder, workdir.embeddings, section.batch_tokens, section.shard_documents
    )
    limit = encoder.max_tokens
    lost = np.maximum(tokens - limit, 0)
    figures = {
        "texts": len(texts),
        "texts_cut": int(np.count_nonzero(lost)),
        "tokens": int(tokens.sum()),
        "tokens_cut": int(lost.sum()),
        "fields_cut": cut,
    }
    console.print(
        f"{figures['texts_cut']:,} of {len(texts):,} texts are longer than {limit} tokens and were "
        f"cut there: {lost.sum() / tokens.sum():.1%} of all tokens"
    )
    if figures["texts_cut"]:
        console.print(
            "  what stands last is lost; see config.embedding.fields, field_characters, max_tokens"
        )
    if jax.process_index() == 0:
        write_json(workdir.metrics("embed"), figures)
