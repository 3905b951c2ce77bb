"""Step 2: an embedding per product, and per query where they are given."""

import json
import pathlib
from collections.abc import Mapping

import jax
import numpy as np

from catid2_jax.checkpoints.folder import read_checkpoint
from catid2_jax.checkpoints.tokenizer import PIECES
from catid2_jax.checkpoints.tree import unflatten
from catid2_jax.config import Config, EmbeddingConfig
from catid2_jax.data.catalog import read_catalog
from catid2_jax.data.queries import read_queries
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.encoders.encoder import Encoder, embed_in_shards
from catid2_jax.encoders.lsa import lsa_embeddings
from catid2_jax.encoders.precomputed import read_embeddings
from catid2_jax.encoders.sentence_transformers import SentenceTransformersEncoder
from catid2_jax.encoders.t5 import T5Encoder
from catid2_jax.encoders.text import document_texts
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write, write_json, write_npy
from catid2_jax.progress import console
from catid2_jax.steps.prepare import SPLITS
from catid2_jax.steps.workdir import Workdir


def run(config: Config, workdir: Workdir) -> None:
    """Writes `embeddings.npy`, the ids of its rows and `query_vectors.<split>.npy`.

    Their rows are in the order of the preprocessed files in `data/`.
    """
    products = read_catalog(workdir.data / "catalog.jsonl")
    section = config.embedding
    if section.encoder == "precomputed":
        _select_given(section, workdir)
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


def _select_given(section: EmbeddingConfig, workdir: Workdir) -> None:
    """The given vectors of the products and queries that preprocessing has kept, in its order."""
    counts = json.loads((workdir.data / "source.json").read_text(encoding="utf-8"))
    rows = np.load(workdir.data / "rows.npy", allow_pickle=False)
    embeddings = read_embeddings(section.path, counts["products"])[rows]
    queries = {
        split: _given_query_vectors(section, workdir, split, counts, embeddings.shape[1])
        for split in SPLITS
        if getattr(section, f"{split}_query_vectors")
    }
    write_npy(workdir.embeddings, embeddings)
    for split, vectors in queries.items():
        write_npy(workdir.query_vectors(split), vectors)


def _given_query_vectors(
    section: EmbeddingConfig, workdir: Workdir, split: str, counts: Mapping[str, int], width: int
) -> np.ndarray:
    name = f"{split}_query_vectors"
    path = getattr(section, name)
    if f"{split}_queries" not in counts:
        raise InputError(
            f"config.embedding.{name} is {path!r} and there are no {split} queries: expected "
            f"config.data.{split}_queries"
        )
    rows = np.load(workdir.data / f"query_rows.{split}.npy", allow_pickle=False)
    return read_embeddings(path, counts[f"{split}_queries"], f"{split} query", width)[rows]


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
    """Embeds products and queries with a network, and says and keeps what was cut off."""
    encoder = make_encoder(section)
    figures = _embed(section, encoder, texts, "texts", workdir.embeddings)
    if figures["texts_cut"]:
        console.print(
            "  what stands last is lost; see config.embedding.fields, field_characters, max_tokens"
        )
    for split in SPLITS:
        path = workdir.data / f"queries.{split}.jsonl"
        if path.exists():
            queries = [query.text for query in read_queries(path)]
            output = workdir.query_vectors(split)
            figures |= _embed(section, encoder.for_queries(), queries, f"{split}_queries", output)
    if jax.process_index() == 0:
        write_json(workdir.metrics("embed"), figures | {"fields_cut": cut})


def _embed(
    section: EmbeddingConfig, encoder: Encoder, texts: list[str], what: str, output: pathlib.Path
) -> dict[str, int]:
    """Writes the vectors of some texts; returns how much of them was cut off."""
    tokens = embed_in_shards(texts, encoder, output, section.batch_tokens, section.shard_documents)
    lost = np.maximum(tokens - encoder.max_tokens, 0)
    texts_cut = int(np.count_nonzero(lost))
    console.print(
        f"{texts_cut:,} of {len(texts):,} {what.replace('_', ' ')} are longer than "
        f"{encoder.max_tokens} tokens and were cut there: {lost.sum() / tokens.sum():.1%} of all "
        "tokens"
    )
    prefix = "" if what == "texts" else f"{what}_"
    return {
        what: len(texts),
        f"{what}_cut": texts_cut,
        f"{prefix}tokens": int(tokens.sum()),
        f"{prefix}tokens_cut": int(lost.sum()),
    }
