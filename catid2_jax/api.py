"""What a program calls: read a catalogue, learn IDs, train a retriever, load one, search.

The steps of the command line read, call the same parts, and write.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from catid2_jax.ablations import ABLATIONS
from catid2_jax.bundle import is_bundle, load_bundle
from catid2_jax.checkpoints.bert import copy_without_weights
from catid2_jax.checkpoints.folder import load_pretrained
from catid2_jax.config import SECTIONS, Config, as_nested_dict, build, put_value
from catid2_jax.constraints import check_local
from catid2_jax.data.catalog import product_text
from catid2_jax.data.corpus import Catalog, Corpus, QuerySet, read_catalog
from catid2_jax.data.preprocessing import keep_grades
from catid2_jax.data.queries import relevant_grades
from catid2_jax.docids.table import DocidTable
from catid2_jax.docids.vocabulary import Vocabulary, train_vocabulary
from catid2_jax.encoders.config import PRECOMPUTED, EmbeddingConfig
from catid2_jax.encoders.encoder import check_vectors, fingerprint
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write, read_json, write_json
from catid2_jax.finished import check_finished, check_made, find_system
from catid2_jax.loading import (
    load_corpus,
    load_product_retriever,
    make_network,
    make_source,
    random_params,
)
from catid2_jax.lock import locked
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.sharding import check_divisible
from catid2_jax.plugins import is_dotted, resolve
from catid2_jax.remote.mirror import fetched
from catid2_jax.resolution import option_changes
from catid2_jax.retrievers.generative import GenerativeRetriever, make_model
from catid2_jax.retrievers.product_retriever import ProductRetriever
from catid2_jax.schemes.scheme import (
    SCHEMES,
    Run,
    check_table,
    make_scheme,
    resolve_scheme,
    scheme_options,
    scheme_sections,
)
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.seq2seq.decoder import resolve_normalize_over
from catid2_jax.seq2seq.source import Source
from catid2_jax.seq2seq.training import SEQ2SEQ, Stage2, load_params, train_decoder
from catid2_jax.steps.continued import earlier_params, earlier_vocabulary
from catid2_jax.systems import SYSTEMS, System
from catid2_jax.types import Qrels, Query
from catid2_jax.workdir import (
    Workdir,
    check_artefacts,
    has_begun,
    place_of,
)

__all__ = ["learn_docids", "load", "read_catalog", "train_retriever"]


def load(workdir: str | os.PathLike[str], system: str = "", **retrieve: Any) -> ProductRetriever:
    """The retriever of a finished work directory, or of a bundle that `export` wrote.

    Args:
        workdir: the folder, or gs://BUCKET/PATH or s3://BUCKET/PATH.
        system: which of its systems; empty for the first one with a trained network, in the order
            of `records.systems_in`, or else the first that has retrieved.
        **retrieve: `beams`, `max_beams`, `normalize_over`, `param_dtype`, `checkpoint` and
            `batch_size` of `RetrieveConfig`, to search otherwise than the work directory's
            configuration says.

    Raises:
        InputError: there is no such work directory or system, a step is missing, a file has changed
            since its step was done, or it is the work of another version.
    """
    root = fetched(workdir, "workdir")
    if is_bundle(root):
        return load_bundle(root, system, retrieve)
    config, place, resolved = find_system(root, system, retrieve)
    for part in resolved.parts:
        check_made(part, place_of(part, config, Workdir(root)))
    check_made(resolved, place)
    return load_product_retriever(config, place, resolved)


def load_embeddings(
    workdir: str | os.PathLike[str], system: str = ""
) -> tuple[np.ndarray, EmbeddingConfig]:
    """The products' embeddings of a finished work directory, and what they were made by.

    Args:
        workdir: the folder.
        system: the one that has learnt from them, as for `load`.

    Returns:
        (float32 [N, D], memory-mapped; the section `embedding` of the configuration).

    Raises:
        InputError: there are none, or they have changed since.
    """
    root = pathlib.Path(workdir)
    if is_bundle(root):
        raise InputError(root, "a bundle, which has no embeddings", "a work directory")
    config, place, _ = find_system(root, system, {})
    check_finished(root, place.vectors, "embed")
    check_artefacts(place, "docids")
    return load_corpus(place).embeddings, config.embedding


def learn_docids(
    catalog: Catalog,
    embeddings: np.ndarray,
    scheme: str = "cat_id2",
    *,
    queries: Mapping[str, str] | Sequence[Query] = (),
    qrels: Qrels | None = None,
    query_vectors: np.ndarray | None = None,
    seed: int = 0,
    directory: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> DocidTable:
    """Gives every product of a catalogue a document ID.

    Args:
        catalog: N products.
        embeddings: float [N, D], row n of product n.
        scheme: a system with IDs ("cat_id2", "tiger"), a scheme ("rqvae"), or the dotted path of a
            system or a scheme of your own.
        queries: the training queries, from which a scheme may learn what belongs together: id ->
            text, or records.
        qrels: query id -> product id -> grade; 3 (exact) and 2 (substitute) count.
        query_vectors: float [Q, D], a row per query of `queries`, made by the encoder of the
            embeddings.
        seed: seed of everything random.
        directory: where checkpoints are kept, from which an interrupted call goes on when it is
            made again with the same arguments; None to keep none.
        **settings: fields of the scheme or of the sections of the configuration that it reads, such
            as `levels=4`, `codebook_size=256`, `steps=1000`.

    Raises:
        InputError: no such scheme, a setting that it does not have, data that do not fit, or
            queries without vectors.
    """
    corpus = _corpus(catalog, embeddings)
    if query_vectors is None and (queries or qrels):
        raise InputError("query_vectors", "none beside queries", "a row per query")
    name, changes = _scheme_and_changes(scheme)
    factory = resolve_scheme(name)
    sections, options = _with_settings(
        scheme_sections(factory, SECTIONS), changes, settings, scheme_options(factory, SECTIONS)
    )
    options = {**option_changes(changes, name), **options}
    made = make_scheme(factory, sections, options)
    if query_vectors is not None:
        known = _training_queries(corpus, queries, qrels or {}, query_vectors)
        corpus = Corpus(catalog, corpus.embeddings, known)
    call = (scheme, seed, sections, options, corpus.queries and corpus.queries.qrels)
    arrays = (corpus.embeddings, *(() if query_vectors is None else (np.asarray(query_vectors),)))
    with _folder(directory, catalog, call, *arrays) as folder:
        return check_table(made.fit(corpus, Run(scheme, folder, seed)), corpus, scheme)


def train_retriever(
    catalog: Catalog,
    docids: DocidTable,
    queries: Mapping[str, str] | Sequence[Query],
    qrels: Qrels,
    *,
    embeddings: np.ndarray | None = None,
    query_vectors: np.ndarray | None = None,
    seed: int = 0,
    directory: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> ProductRetriever:
    """Trains stage 2 on queries and their relevant products, and returns the retriever.

    Args:
        catalog: N products.
        docids: their document IDs, by `learn_docids`.
        queries: the training queries: id -> text, or records.
        qrels: query id -> product id -> grade; the network learns from 3 (exact) and 2
            (substitute), others are left out.
        embeddings: float [N, D], where stage 2 reads vectors (`memory_tokens` above 0, and not
            `word_features` without `query_vectors`).
        query_vectors: float [Q, D], a row per query of `queries`, made by the encoder of the
            embeddings; where stage 2 reads vectors.
        seed: seed of everything random.
        directory: where the vocabulary and checkpoints are kept, from which an interrupted call
            goes on when it is made again with the same arguments; None to keep none.
        **settings: fields of the sections `seq2seq`, `t5`, `seq2seq_training` and `retrieve`, such
            as `emb_dim=128`, `epochs=3`, `beams=50`. Where two sections have a field, say which:
            `seq2seq_training={"batch_size": 64}`.

    Raises:
        InputError: a setting that there is not, or data that do not fit together.
    """
    corpus = _corpus(catalog, embeddings)
    check_table(docids, corpus, "docids")
    sections, _ = _with_settings(("seq2seq", "t5", "seq2seq_training", "retrieve"), {}, settings)
    seq2seq, t5, training = sections["seq2seq"], sections["t5"], sections["seq2seq_training"]
    _check_source(seq2seq, t5)
    retrieve = sections["retrieve"]
    over = resolve_normalize_over(retrieve.normalize_over, seq2seq.objective.normalize_over)
    known = _training_queries(corpus, queries, qrels, query_vectors)
    call = (seed, seq2seq, t5, training, known.ids, known.texts, known.qrels)
    arrays = (docids.codes, *(a for a in (embeddings, known.vectors) if a is not None))
    with _folder(directory, catalog, call, *map(np.asarray, arrays)) as folder:
        source = _make_source(corpus, docids, known, seq2seq, t5, folder)
        decoder = make_network(seq2seq, t5, source, folder / "encoder")
        check_divisible(t5, source.vocabulary.rows, seq2seq.model_devices)

        stage2 = Stage2(corpus, docids, source, decoder)
        start = functools.partial(_starting_params, seq2seq, t5, stage2, seed)
        train_decoder(stage2, known, None, seq2seq, training, folder / SEQ2SEQ, seed, start)
        params = load_params(decoder, source, training, folder / SEQ2SEQ, "last")
    model = make_model(decoder, params, source, docids, retrieve.param_dtype, over)
    retriever = GenerativeRetriever(corpus, model, retrieve)
    return ProductRetriever("trained", catalog, retriever, docids)


def _starting_params(seq2seq: Seq2SeqConfig, t5: T5Config, stage2: Stage2, seed: int) -> Any:
    source, decoder = stage2.source, stage2.decoder
    if seq2seq.continue_from:
        return earlier_params(pathlib.Path(seq2seq.continue_from), decoder, source, stage2.table)
    if seq2seq.pretrained and isinstance(source.vocabulary, Vocabulary):
        return load_pretrained(seq2seq.pretrained, t5, source.vocabulary, None, seed)
    return random_params(seq2seq, decoder, source, seed)


def _check_source(seq2seq: Seq2SeqConfig, t5: T5Config) -> None:
    """Raises InputError for what does not go with a network that reads vectors, or text."""
    if seq2seq.word_features and not t5.memory_tokens:
        raise InputError(
            "word_features",
            f"{seq2seq.word_features} with memory_tokens = 0",
            "0, for the network reads text",
        )
    if seq2seq.pretrained_encoder and t5.memory_tokens:
        raise InputError(
            "pretrained_encoder",
            f"{seq2seq.pretrained_encoder!r} with memory_tokens = {t5.memory_tokens}",
            "0 memory tokens, for it reads text",
        )
    if seq2seq.pretrained and (t5.memory_tokens or seq2seq.id_rows == "codebooks"):
        raise InputError(
            "pretrained",
            f"{seq2seq.pretrained!r} with memory_tokens = {t5.memory_tokens} and id_rows = "
            f"{seq2seq.id_rows!r}",
            "0 memory tokens, for it reads text, and id_rows 'statistics', for there is no stage 1",
        )


def _make_source(
    corpus: Corpus,
    docids: DocidTable,
    queries: QuerySet,
    seq2seq: Seq2SeqConfig,
    t5: T5Config,
    folder: pathlib.Path,
) -> Source:
    """What the network reads: vectors, or texts, by a vocabulary that is trained if need be."""
    vectors = "" if queries.vectors is None else "query_vectors"
    given = EmbeddingConfig(PRECOMPUTED, "embeddings", train_query_vectors=vectors)
    path, encoder = folder / "vocabulary.model", folder / "encoder"
    if t5.memory_tokens:
        width = corpus.embeddings.shape[1] if vectors or not seq2seq.word_features else 0
        return make_source(seq2seq, t5, given, docids, path, width, encoder)
    if seq2seq.pretrained_encoder:
        copy_without_weights(seq2seq.pretrained_encoder, encoder)
    elif not (seq2seq.vocabulary or path.exists()):
        if seq2seq.continue_from:
            model = earlier_vocabulary(pathlib.Path(seq2seq.continue_from)).read_bytes()
        else:
            texts = [*(product_text(product, True) for product in corpus.catalog), *queries.texts]
            model = train_vocabulary(texts, seq2seq.vocabulary_size)
        with atomic_write(path, "wb") as file:
            file.write(model)
    return make_source(seq2seq, t5, given, docids, path, 0, encoder)


def _corpus(catalog: Catalog, embeddings: np.ndarray | None) -> Corpus:
    """The products with their embeddings, float32 and checked.

    Raises:
        InputError: another number of embeddings, no floats, NaN or infinity.
    """
    if embeddings is None:
        return Corpus(catalog)
    corpus = Corpus(catalog, np.asarray(embeddings))
    bad = np.flatnonzero(~np.isfinite(corpus.embeddings).all(axis=1))
    if bad.size:
        raise InputError("embeddings", f"NaN or infinity in row {bad[0]}", "finite numbers")
    return Corpus(catalog, np.asarray(embeddings, np.float32))


def _scheme_and_changes(name: str) -> tuple[str, Mapping[str, Any]]:
    """The scheme of a system or a scheme, and what the system changes of the configuration."""
    system = resolve(name, {}, "scheme") if is_dotted(name) else SYSTEMS.get(name)
    if isinstance(system, System) and system.scheme:
        return system.scheme, system.changes
    if isinstance(system, System) or not (name in SCHEMES or is_dotted(name)):
        rows = [row for row, known in SYSTEMS.items() if known.scheme and row not in ABLATIONS]
        raise InputError(
            "scheme", repr(name), f"one of {', '.join((*SCHEMES, *rows))}, or package.module:Name"
        )
    return name, {}


def _training_queries(
    corpus: Corpus,
    queries: Mapping[str, str] | Sequence[Query],
    qrels: Qrels,
    vectors: np.ndarray | None,
) -> QuerySet:
    """The queries with a relevant product, their judgements and their vectors.

    Raises:
        InputError: a product that the catalogue does not have, or another number of vectors.
    """
    records = (
        [Query(i, text) for i, text in queries.items()]
        if isinstance(queries, Mapping)
        else list(queries)
    )
    relevant = keep_grades(qrels, relevant_grades(("E", "S")))
    for query, judged in relevant.items():
        for product in judged:
            if product not in corpus.catalog.rows:
                raise InputError(
                    f"qrels of query {query!r}", f"product {product!r}", "one of the catalogue"
                )
    rows = [row for row, query in enumerate(records) if query.id in relevant]
    if vectors is not None:
        vectors = check_vectors(vectors, [query.text for query in records])[rows]
    return QuerySet([records[row] for row in rows], relevant, vectors)


@contextlib.contextmanager
def _folder(
    directory: str | os.PathLike[str] | None,
    catalog: Catalog,
    call: object,
    *arrays: np.ndarray,
) -> Iterator[pathlib.Path]:
    """The folder that is named, or one that goes away.

    Args:
        directory: the folder's name, or None.
        catalog: the products.
        call: the other arguments on which the folder's files depend.
        *arrays: those of them that are arrays.

    Raises:
        InputError: the folder has the work of a call with other arguments, or a run is at work
            there.
    """
    if directory is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield pathlib.Path(temporary)
        return
    products = (catalog.ids, catalog.titles, catalog.paths)
    made = {"arguments": fingerprint(repr((call, products)).encode(), *arrays)}
    folder = check_local(directory, "directory")
    with locked(folder):
        path = folder / "call.json"
        begun = any(has_begun(folder, step) for step in ("docids", "train_seq2seq"))
        if not (path.exists() and begun):  # what a call that failed has noted binds nobody
            write_json(path, made)
        elif read_json(path) != made:
            raise InputError(
                directory,
                "the work of a call with other arguments",
                "the same, or another directory",
            )
        yield folder


def _with_settings(
    sections: Sequence[str],
    changes: Mapping[str, Any],
    settings: Mapping[str, Any],
    options: Collection[str] = (),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sections with a system's changes and settings by field name, and options among the settings.

    Args:
        sections: their names.
        changes: path of a field -> value; those of other sections are left out.
        settings: name of a field, a section or an option -> value.
        options: names of options.

    Raises:
        InputError: a setting that nothing or several sections have, or a wrong value.
    """
    default = Config()
    values = {name: as_nested_dict(getattr(default, name)) for name in sections}
    for path, value in changes.items():
        if path.partition(".")[0] in sections:
            put_value(values, path.split("."), value)
    rest: dict[str, Any] = {}
    for name, value in settings.items():
        owners = [section for section in sections if name in values[section]]
        if name in options:
            rest[name] = value
        elif name in sections or len(owners) == 1:
            inside = values if name in sections else values[owners[0]]
            old, new = inside[name], value
            if dataclasses.is_dataclass(new) and not isinstance(new, type):
                new = as_nested_dict(new)
            inside[name] = {**old, **new} if isinstance(new, Mapping) else new
        elif owners:
            raise InputError(name, repr(value), f"it within one of {', '.join(owners)}")
        else:
            fields = [*options, *(field for section in sections for field in values[section])]
            raise InputError("settings", repr(name), f"some of {', '.join(fields)}")
    return {
        name: build(type(getattr(default, name)), values[name], name) for name in sections
    }, rest
