"""Step 2: an embedding per product, and per query where the encoder makes any."""

import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from catid2_jax.config import Config
from catid2_jax.data.config import SPLITS
from catid2_jax.data.corpus import CatalogFile
from catid2_jax.data.queries import SOURCE_ROW, read_queries
from catid2_jax.encoders.config import PRECOMPUTED, EmbeddingConfig
from catid2_jax.encoders.encoder import Encoder, embed_in_shards
from catid2_jax.encoders.precomputed import embedding_blocks, embedding_width, read_embeddings
from catid2_jax.encoders.registry import make_encoder
from catid2_jax.encoders.text import document_texts
from catid2_jax.errors import InputError
from catid2_jax.files import write_json, write_npy, write_npy_blocks
from catid2_jax.processes import is_first
from catid2_jax.progress import console
from catid2_jax.workdir import (
    Place,
    check_files,
    read_record,
    record_path,
    relevant_values,
    replaced_file,
)

STEP = "embed"


def run(config: Config, place: Place) -> None:
    """Writes `embeddings.npy` and `query_vectors.<split>.npy`.

    Their rows are those of the preprocessed catalogue and queries in `data/`. Where a system has
    made the same ones before, they are its files.
    """
    if is_first():  # what an unfinished run with another encoder may have left
        for split in SPLITS:
            place.query_vectors(split).unlink(missing_ok=True)
    if _taken_over(config, place):
        return
    section, catalog = config.embedding, CatalogFile(place.workdir.catalog)
    if section.encoder == PRECOMPUTED:
        _select_given(section, place, catalog)
        return
    encoder = make_encoder(section, config.seed)
    try:
        texts, cut = document_texts(catalog, section.text_fields, section.field_characters)
    except InputError as error:
        raise error.within("config.embedding") from error
    if section.field_characters:
        console.print(f"{cut:,} fields are longer than {section.field_characters} characters")
    console.print(f"embedding {len(texts):,} products by {section.encoder} ...")
    figures = {"fields_cut": cut}
    figures |= _embed(section, encoder, texts, "texts", place.embeddings)
    if figures.get("texts_cut"):
        console.print(
            "  what stands last is lost; see config.embedding.fields, field_characters, max_tokens"
        )
    for split in SPLITS:
        path = place.workdir.queries(split)
        if path.exists() and not encoder.fits_catalog:
            queries = [query.text for query in read_queries(path)]
            output = place.query_vectors(split)
            figures |= _embed(section, encoder.for_queries(), queries, f"{split}_queries", output)
    if is_first():
        write_json(place.figures("embed"), figures)


def _taken_over(config: Config, place: Place) -> bool:
    """Links to the same vectors of the same data in another folder; false if there are none."""
    root, own = place.workdir.root, record_path(place.vectors, STEP)
    wanted = relevant_values(config, ("embedding",))
    for path in (record_path(root, STEP), *sorted(root.glob(f"*/steps/{STEP}.json"))):
        record, folder = read_record(path), path.parent.parent
        if path == own or record is None or not record.done or record.config != wanted:
            continue
        if replaced_file(record, STEP, place):
            continue
        check_files(path)
        if is_first():
            console.print(f"the embeddings are those of {folder.name}")
            for name in record.files:
                _link(folder / name, place.vectors / name)
        return True
    return False


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _select_given(section: EmbeddingConfig, place: Place, catalog: CatalogFile) -> None:
    """The given vectors of the products and queries that preprocessing has kept, in its order."""
    record = read_record(record_path(place.workdir.root, "prepare"))
    if record is None or not record.done:
        raise InputError(place.workdir.data, "no prepared data", "the step `prepare` done")
    counts = record.result["source_rows"]
    width = embedding_width(section.path, counts["products"])
    queries = {
        split: _given_query_vectors(section, place, split, counts, width)
        for split in SPLITS
        if getattr(section, f"{split}_query_vectors")
    }
    rows = _selected(embedding_blocks(section.path, counts["products"]), catalog.source_rows)
    write_npy_blocks(place.embeddings, rows, (len(catalog), width))
    for split, vectors in queries.items():
        write_npy(place.query_vectors(split), vectors)


def _selected(blocks: Iterator[np.ndarray], rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yields of each block those of its rows that are in `rows`, which rise."""
    start = 0
    for block in blocks:
        first, last = np.searchsorted(rows, (start, start + len(block)))
        yield block[rows[first:last] - start]
        start += len(block)


def _given_query_vectors(
    section: EmbeddingConfig, place: Place, split: str, counts: Mapping[str, int], width: int
) -> np.ndarray:
    name = f"{split}_query_vectors"
    path = getattr(section, name)
    if f"{split}_queries" not in counts:
        raise InputError(
            f"config.embedding.{name}",
            f"{path!r} and no {split} queries",
            f"config.data.{split}_queries",
        )
    rows = [query.extra[SOURCE_ROW] for query in read_queries(place.workdir.queries(split))]
    return read_embeddings(path, counts[f"{split}_queries"], f"{split} query", width)[rows]


def _embed(
    section: EmbeddingConfig,
    encoder: Encoder,
    texts: Sequence[str],
    what: str,
    output: pathlib.Path,
) -> dict[str, int]:
    """Writes the vectors of some texts; returns how much of them was cut off, if that is known."""
    counts = embed_in_shards(texts, encoder, output, section.shard_documents)
    if counts is None:
        return {what: len(texts)}
    console.print(
        f"{counts.texts_cut:,} of {len(texts):,} {what.replace('_', ' ')} are longer than "
        f"{encoder.max_tokens} tokens and were cut there: {counts.tokens_cut / counts.tokens:.1%} "
        "of all tokens"
    )
    prefix = "" if what == "texts" else f"{what}_"
    return {
        what: len(texts),
        f"{what}_cut": counts.texts_cut,
        f"{prefix}tokens": counts.tokens,
        f"{prefix}tokens_cut": counts.tokens_cut,
    }
