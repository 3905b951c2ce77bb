"""A work directory's parts as the objects that train, search and export."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.checkpoints.bert import read_bert, read_bert_config
from catid2_jax.checkpoints.trained import finished_step
from catid2_jax.checkpoints.wordpiece import read_tokenizer
from catid2_jax.config import Config
from catid2_jax.data.config import SPLITS
from catid2_jax.data.corpus import Catalog, Corpus, QuerySet
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.docids.table import DocidTable, read_docids
from catid2_jax.docids.vocabulary import CodeVocabulary, Vocabulary
from catid2_jax.encoders.config import PRECOMPUTED, EmbeddingConfig
from catid2_jax.encoders.encoder import Encoder
from catid2_jax.encoders.registry import make_encoder
from catid2_jax.errors import InputError
from catid2_jax.files import read_npy
from catid2_jax.models.bert_t5 import BERT
from catid2_jax.models.t5.config import T5Config
from catid2_jax.resolution import ResolvedSystem
from catid2_jax.retrievers.dpr import TrainedTowers
from catid2_jax.retrievers.fused import OwnVectors
from catid2_jax.retrievers.generative import TrainedModel, make_model
from catid2_jax.retrievers.product_retriever import ProductRetriever
from catid2_jax.retrievers.retriever import Retriever, make_retriever, resolve_retriever
from catid2_jax.retrievers.towers import TOWERS, Tower, load_towers
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.seq2seq.decoder import Decoder, T5Decoder, make_decoder, resolve_normalize_over
from catid2_jax.seq2seq.source import Source, TextSource, VectorSource, WordPieceSource
from catid2_jax.seq2seq.training import SEQ2SEQ, Stage2, load_params
from catid2_jax.training.checkpoint import Which
from catid2_jax.workdir import Place, place_of, read_record, record_path

TRAINED_READS = ("embedding", "seq2seq", "t5", "seq2seq_training")
"""Sections that say what a trained stage 2 is."""


def load_corpus(place: Place, with_embeddings: bool = True) -> Corpus:
    """The products, and their embeddings, memory-mapped, if they are asked for."""
    embeddings = None
    if with_embeddings:
        embeddings = read_npy(place.embeddings, memory_mapped=True)
    return Corpus(Catalog.open(place.workdir.catalog), embeddings)


def load_queries(place: Place, split: str) -> QuerySet:
    """The preprocessed queries of a split with their judgements, and their vectors if there are."""
    path = place.query_vectors(split)
    vectors = read_npy(path) if path.exists() else None
    queries = read_queries(place.workdir.queries(split))
    return QuerySet(queries, read_qrels(place.workdir.qrels(split)), vectors)


def load_table(place: Place, catalog: Catalog) -> DocidTable:
    """The document IDs of the catalogue, in its order.

    Raises:
        InputError: they are missing, or those of another catalogue.
    """
    record = read_record(record_path(place.model, "docids"))
    shape = record.result if record else {}
    table = read_docids(place.docids, shape.get("codebook_size", 0))
    levels = shape.get("levels", table.levels)
    if table.levels != levels:
        raise InputError(
            place.docids,
            f"IDs of {table.levels} codes",
            f"{levels} codes, as the step that made them says",
        )
    if list(table.ids) != catalog.ids:
        pairs = zip([*table.ids, None], [*catalog.ids, None], strict=False)
        found, expected = next((own, other) for own, other in pairs if own != other)
        raise InputError(
            place.docids,
            f"{len(table.ids)} IDs, the first that differs of product {found!r}",
            f"one for each of the catalogue's {len(catalog)} products in their order, there "
            f"{expected!r}",
        )
    return table


def make_source(
    section: Seq2SeqConfig,
    t5: T5Config,
    embedding: EmbeddingConfig,
    table: DocidTable | None,
    vocabulary_path: Any,
    width: int,
    encoder_folder: pathlib.Path,
) -> Source:
    """The form in which stage 2 reads queries, chosen here and nowhere else.

    Args:
        section: how texts become tokens.
        t5: the network, whose `memory_tokens` say whether it reads vectors.
        embedding: the encoder of vectors.
        table: the IDs, whose shape the ID tokens have; None for a network that writes none.
        vocabulary_path: the SentencePiece model, for texts.
        width: of the embeddings, for vectors.
        encoder_folder: the tokens of the pretrained encoder, if there is one.
    """
    levels, size = (table.levels, table.codebook_size) if table else (0, 0)
    if section.pretrained_encoder:
        tokenizer = read_tokenizer(encoder_folder)
        return WordPieceSource(CodeVocabulary(levels, size), tokenizer, section.source_tokens)
    if not t5.memory_tokens:
        vocabulary = Vocabulary(
            section.vocabulary or vocabulary_path, levels, size, section.extra_ids
        )
        return TextSource(vocabulary, section.source_tokens)
    if section.word_features and not embedding.has_query_vectors:
        return VectorSource(CodeVocabulary(levels, size), 0, None, section.word_features)
    encode = None if embedding.encoder == PRECOMPUTED else _QueryEncoder(embedding).encode
    return VectorSource(CodeVocabulary(levels, size), width, encode, section.word_features)


def make_network(
    section: Seq2SeqConfig, t5: T5Config, source: Source, encoder_folder: pathlib.Path
) -> Decoder:
    """The network of stage 2 for its sources.

    Args:
        section: which decoder it is.
        t5: its shape.
        source: what it reads.
        encoder_folder: the shape of the pretrained encoder, if there is one.

    Raises:
        InputError: the pretrained encoder cannot read sources so long, or not be shared evenly.
    """
    if not section.pretrained_encoder:
        return make_decoder(section.decoder, t5, source.vocabulary)
    encoder, devices = read_bert_config(encoder_folder), section.model_devices
    if section.source_tokens > encoder.max_position_embeddings:
        raise InputError(
            "seq2seq.source_tokens",
            section.source_tokens,
            f"at most {encoder.max_position_embeddings}, the positions of the pretrained encoder",
        )
    for name in ("num_attention_heads", "intermediate_size"):
        if getattr(encoder, name) % devices:
            raise InputError(
                f"{name} of the pretrained encoder",
                getattr(encoder, name),
                f"a multiple of model_devices = {devices}",
            )
    name = "bert_t5" if section.decoder == "t5" else section.decoder
    return make_decoder(name, t5, source.vocabulary, encoder)


def random_params(section: Seq2SeqConfig, decoder: Decoder, source: Source, seed: int) -> Any:
    """Random parameters of stage 2, but those of the pretrained encoder where there is one."""
    params = decoder.initialize(jax.random.key(seed), source.form)
    if section.pretrained_encoder:
        params = {**params, BERT: jax.tree.map(jnp.asarray, read_bert(section.pretrained_encoder))}
    return params


class _QueryEncoder:
    """The configured encoder for queries, loaded when the first one comes."""

    def __init__(self, embedding: EmbeddingConfig) -> None:
        self._embedding = embedding

    @functools.cached_property
    def _encoder(self) -> Encoder:
        encoder = make_encoder(self._embedding)
        if encoder.fits_catalog:
            name = self._embedding.encoder
            raise InputError("vectors", f"none, and {name!r} makes none", "a vector per query")
        return encoder.for_queries()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of the texts."""
        return self._encoder.encode(texts)


def tower_sources(config: Config, place: Place, product_tokens: int) -> tuple[Source, Source]:
    """The forms in which DPR's towers read queries and products: stage 2's, without IDs.

    Args:
        config: stage 2's sections.
        place: where the tokens lie.
        product_tokens: length of a product's text.
    """
    width = 0
    if config.t5.memory_tokens:
        width = read_npy(place.embeddings, memory_mapped=True).shape[1]

    def source(tokens: int) -> Source:
        section = dataclasses.replace(config.seq2seq, source_tokens=tokens)
        paths = place.workdir.vocabulary, width, place.encoder
        return make_source(section, config.t5, config.embedding, None, *paths)

    return source(config.seq2seq.source_tokens), source(product_tokens)


def make_tower(config: Config, place: Place, source: Source, product_tokens: int) -> Tower:
    """The network of DPR's towers: stage 2's encoder.

    Raises:
        InputError: the pretrained encoder cannot read texts so long.
    """
    most = max(config.seq2seq.source_tokens, product_tokens)
    section = dataclasses.replace(config.seq2seq, decoder="t5", source_tokens=most)
    decoder = make_network(section, config.t5, source, place.encoder)
    assert isinstance(decoder, T5Decoder)
    return Tower(decoder.network)


def _load_trained_towers(config: Config, place: Place, system: ResolvedSystem) -> TrainedTowers:
    """The trained towers of a system.

    Raises:
        InputError: they are not trained, or something else lies there.
    """
    tokens = system.all_options["product_tokens"]
    source, _ = tower_sources(config, place, tokens)
    tower = make_tower(config, place, source, tokens)
    params = load_towers(tower, source.form, config.seq2seq_training, place.folder / TOWERS)
    return TrainedTowers(tower, params, source, read_npy(place.product_vectors))


def load_stage2(config: Config, place: Place) -> Stage2:
    """What stage 2 is made of, of the files of the steps before it.

    Raises:
        InputError: a file is missing, or the IDs are not the catalogue's.
    """
    corpus = load_corpus(place)
    table = load_table(place, corpus.catalog)
    source = make_source(
        config.seq2seq,
        config.t5,
        config.embedding,
        table,
        place.workdir.vocabulary,
        corpus.embeddings.shape[1],
        place.encoder,
    )
    decoder = make_network(config.seq2seq, config.t5, source, place.encoder)
    return Stage2(corpus, table, source, decoder)


def load_model(config: Config, place: Place) -> TrainedModel:
    """The trained stage 2, its parameters as `config.retrieve` says.

    Raises:
        InputError: it is not trained, its checkpoint is damaged, or something else lies there.
    """
    stage, section = load_stage2(config, place), config.retrieve
    which: Which = "best" if section.checkpoint == "auto" else section.checkpoint
    step = finished_step(place.model, SEQ2SEQ, which)
    if step is None and section.checkpoint == "auto":
        which = "last"
        finished_step(place.model, SEQ2SEQ, which)
    directory = place.model / SEQ2SEQ
    params = load_params(stage.decoder, stage.source, config.seq2seq_training, directory, which)
    over = resolve_normalize_over(section.normalize_over, config.seq2seq.objective.normalize_over)
    return make_model(stage.decoder, params, stage.source, stage.table, section.param_dtype, over)


def load_product_retriever(
    config: Config, place: Place, system: ResolvedSystem
) -> ProductRetriever:
    """A system's retriever over the products of a work directory.

    Raises:
        InputError: something that it needs is missing.
    """
    corpus = _corpus_of(config, place, system)
    options, table = dict(system.options), None
    if system.parts:
        options["retrievers"] = [_part(part, config, place) for part in system.parts]
    elif system.has_towers:
        options["towers"] = _load_trained_towers(config, place, system)
    elif system.is_trained:
        model = load_model(config, place)
        table = model.table
        options |= {"model": model, "config": config.retrieve}
    try:
        retriever = make_retriever(system.row.retriever, corpus, options)
    except InputError as error:
        if error.where in system.options:
            raise error.within(f"config.{system.option_names[1]}") from error
        raise
    return ProductRetriever(system.name, corpus.catalog, retriever, table)


def _corpus_of(config: Config, place: Place, system: ResolvedSystem) -> Corpus:
    """What a system's retriever reads."""
    reads = system.needs_embeddings and not system.parts and not system.has_towers
    corpus = load_corpus(place, reads)
    if getattr(resolve_retriever(system.row.retriever), "needs_queries", False):
        corpus.queries = load_queries(place, "train")
    if reads and not system.is_trained:
        given = config.embedding.encoder == PRECOMPUTED
        corpus.encode_queries = None if given else _QueryEncoder(config.embedding).encode
    return corpus


def _part(part: ResolvedSystem, config: Config, place: Place) -> Retriever:
    """The retriever of a system whose ranking is fused."""
    own = place_of(part, config, place.workdir)
    retriever = load_product_retriever(part.config, own, part).retriever
    return retriever if own.vectors == place.workdir.root else OwnVectors(retriever)


def splits_there(place: Place) -> list[str]:
    """The splits that `prepare` left."""
    return [split for split in SPLITS if place.workdir.queries(split).exists()]
