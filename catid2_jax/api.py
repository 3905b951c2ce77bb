"""What a program calls: read a catalogue, learn IDs, train a retriever, load one, search.

The steps of the command line read, call the same parts, and write.
"""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from catid2_jax.config import SECTIONS, Config, as_nested_dict, build
from catid2_jax.data.catalog import product_text
from catid2_jax.data.corpus import Catalog, Corpus, QuerySet, read_catalog
from catid2_jax.docids.table import DocidTable
from catid2_jax.docids.vocabulary import train_vocabulary
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write
from catid2_jax.loading import load_product_retriever, make_source
from catid2_jax.plugins import is_dotted
from catid2_jax.retrievers.generative import GenerativeRetriever, make_model
from catid2_jax.retrievers.product_retriever import ProductRetriever
from catid2_jax.schemes.scheme import (
    SCHEMES,
    Run,
    check_table,
    make_scheme,
    resolve_scheme,
    scheme_sections,
)
from catid2_jax.seq2seq.decoder import make_decoder
from catid2_jax.seq2seq.training import SEQ2SEQ, Stage2, load_params, train_decoder
from catid2_jax.steps.chain import place_of
from catid2_jax.systems import SYSTEMS, resolve_system
from catid2_jax.types import Qrels, Query
from catid2_jax.workdir import Record, Workdir, read_record, record_path

__all__ = ["learn_docids", "load", "read_catalog", "train_retriever"]


def load(workdir: str | os.PathLike[str], system: str = "", **retrieve: Any) -> ProductRetriever:
    """A finished work directory's retriever.

    Args:
        workdir: the folder.
        system: which of its systems; empty for the first one that generates IDs, in the order of
            `SYSTEMS`, or else the first.
        **retrieve: fields of `RetrieveConfig` (`beams`, `normalize_over`, `param_dtype`, ...) to
            search otherwise than the work directory's configuration says.

    Raises:
        InputError: there is no such work directory or system, a step is missing, or it is the work
            of another version.
    """
    root = pathlib.Path(workdir)
    records = {name: _records(root, name) for name in _systems_in(root)}
    name = system or _first(records, root)
    if name not in records:
        raise InputError(root, f"no system {name!r}", f"one of {', '.join(records)}")
    config = _recorded_config(records[name], root, retrieve)
    entry = next(iter(records[name].values())).system
    resolved = resolve_system(entry, config)
    place = place_of(resolved, config, Workdir(root))
    needed = ["prepare", *(["embed"] if resolved.needs_embeddings else [])]
    if resolved.is_trained:
        needed += ["docids", "train_seq2seq"]
    folders = {"prepare": root, "embed": place.vectors, "docids": place.model}
    for step in needed:
        record = read_record(record_path(folders.get(step, place.model), step))
        if record is None or not record.done:
            raise InputError(
                root, f"no finished step {step} of system {name}", "a finished work directory"
            )
    return load_product_retriever(config, place, resolved)


def learn_docids(
    catalog: Catalog,
    embeddings: np.ndarray,
    scheme: str = "cat_id2",
    *,
    seed: int = 0,
    directory: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> DocidTable:
    """Gives every product of a catalogue a document ID.

    Args:
        catalog: N products.
        embeddings: float [N, D], row n of product n.
        scheme: a system with IDs ("cat_id2", "tiger"), a scheme ("rqvae"), or a dotted path.
        seed: seed of everything random.
        directory: where checkpoints are kept, from which an interrupted call goes on when it is
            made again; None to keep none.
        **settings: fields of the scheme or of the sections of the configuration that it reads, such
            as `levels=4`, `codebook_size=256`, `epochs=100`.

    Raises:
        InputError: no such scheme, a setting that it does not have, or data that do not fit.
    """
    corpus = Corpus(catalog, np.asarray(embeddings))
    changes: Mapping[str, Any] = {}
    name = scheme
    if scheme in SYSTEMS and SYSTEMS[scheme].scheme:
        name, changes = SYSTEMS[scheme].scheme, SYSTEMS[scheme].changes
    elif scheme not in SCHEMES and not is_dotted(scheme):
        with_ids = [row for row, system in SYSTEMS.items() if system.scheme]
        raise InputError(
            "scheme", repr(scheme), f"one of {', '.join((*SCHEMES, *with_ids[:3]))}, ..., or a path"
        )
    factory = resolve_scheme(name)
    sections = scheme_sections(factory, SECTIONS)
    config, options = _with_settings(Config(), sections, changes, settings)
    made = make_scheme(factory, {s: getattr(config, s) for s in sections}, options)
    with _folder(directory) as folder:
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
        qrels: query id -> product id -> grade (3 exact, 2 substitute).
        embeddings: float [N, D], where stage 2 reads vectors (`memory_tokens` above 0).
        query_vectors: float [Q, D] of the training queries, by the encoder of the embeddings; then,
            too.
        seed: seed of everything random.
        directory: where the vocabulary and checkpoints are kept, from which an interrupted call
            goes on; None to keep none.
        **settings: fields of the sections `seq2seq`, `t5`, `seq2seq_training` and `retrieve`, such
            as `emb_dim=128`, `epochs=3`, `beams=50`.

    Raises:
        InputError: a setting that there is not, or data that do not fit together.
    """
    sections = ("seq2seq", "t5", "seq2seq_training", "retrieve")
    config, options = _with_settings(Config(), sections, {}, settings)
    if options:
        raise InputError("train_retriever", f"the setting {min(options)!r}", "one of its sections'")
    records = (
        [Query(i, text) for i, text in queries.items()]
        if isinstance(queries, Mapping)
        else list(queries)
    )
    known = QuerySet([q for q in records if q.id in qrels], qrels, query_vectors)
    corpus = Corpus(catalog, embeddings)
    check_table(docids, corpus, "docids")
    with _folder(directory) as folder:
        vocabulary = folder / "vocabulary.model"
        if not (config.t5.memory_tokens or config.seq2seq.vocabulary or vocabulary.exists()):
            texts = [*(product_text(product, True) for product in catalog), *known.texts]
            with atomic_write(vocabulary, "wb") as file:
                file.write(train_vocabulary(texts, config.seq2seq.vocabulary_size))
        width = corpus.embeddings.shape[1] if config.t5.memory_tokens else 0
        source = make_source(config.seq2seq, config.t5, config.embedding, docids, vocabulary, width)
        decoder = make_decoder(config.seq2seq.decoder, config.t5, source.vocabulary)
        stage = Stage2(corpus, docids, source, decoder)
        train_decoder(
            stage,
            known,
            None,
            config.seq2seq,
            config.seq2seq_training,
            folder / SEQ2SEQ,
            seed,
            lambda: decoder.initialize(jax.random.key(seed), source.form),
        )
        params = load_params(decoder, source, config.seq2seq_training, folder / SEQ2SEQ, "last")
    model = make_model(decoder, params, source, docids, config.retrieve.param_dtype)
    retriever = GenerativeRetriever(corpus, model, config.retrieve)
    return ProductRetriever("trained", catalog, retriever, docids)


@contextlib.contextmanager
def _folder(directory: str | os.PathLike[str] | None) -> Iterator[pathlib.Path]:
    """The folder that is named, or one that goes away."""
    if directory is not None:
        yield pathlib.Path(directory)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield pathlib.Path(folder)


def _with_settings(
    config: Config,
    sections: Sequence[str],
    changes: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> tuple[Config, dict[str, Any]]:
    """The configuration with a system's changes and settings by field name, and what is left.

    Raises:
        InputError: a setting that several sections have.
    """
    values = as_nested_dict(config)
    for path, value in changes.items():
        section, _, name = path.partition(".")
        values[section][name] = value
    rest: dict[str, Any] = {}
    for name, value in settings.items():
        owners = [section for section in sections if name in values[section]]
        if name in sections:
            values[name] = as_nested_dict(value) if dataclasses.is_dataclass(value) else value
        elif len(owners) > 1:
            raise InputError("settings", repr(name), f"it within one of {', '.join(owners)}")
        elif owners:
            old = values[owners[0]][name]
            both = isinstance(old, dict) and isinstance(value, Mapping)
            values[owners[0]][name] = {**old, **value} if both else value
        else:
            rest[name] = value
    return build(Config, values, "settings"), rest


def _systems_in(root: pathlib.Path) -> list[str]:
    """The systems of a work directory, those of `SYSTEMS` in its order before others.

    Raises:
        InputError: it is no work directory.
    """
    if not (root / "steps").is_dir():
        found = "no such folder" if not root.is_dir() else "no steps/"
        raise InputError(root, found, "a work directory that `pipeline` made")
    names = sorted(path.parent.name for path in root.glob("*/steps") if path.is_dir())
    rows = list(SYSTEMS)
    return sorted(names, key=lambda name: rows.index(name) if name in rows else len(rows))


def _records(root: pathlib.Path, system: str) -> dict[str, Record]:
    """Step -> record, of the steps of one system."""
    found = {}
    for step in ("docids", "train_seq2seq", "retrieve"):
        record = read_record(record_path(root / system, step))
        if record is not None:
            found[step] = record
    return found


def _first(records: Mapping[str, Mapping[str, Record]], root: pathlib.Path) -> str:
    """The first system with a trained network, or else the first."""
    known = {name: steps for name, steps in records.items() if steps}
    if not known:
        raise InputError(root, "no system with a finished step", "a finished work directory")
    return next((name for name, steps in known.items() if "train_seq2seq" in steps), min(known))


def _recorded_config(
    steps: Mapping[str, Record], root: pathlib.Path, retrieve: Mapping[str, Any]
) -> Config:
    """The configuration that the records of a work directory's steps hold."""
    shared = [read_record(record_path(root, step)) for step in ("prepare", "embed")]
    values = as_nested_dict(Config())
    for record in (*filter(None, shared), *steps.values()):
        for path, value in record.config.items():
            if path != "contents of files":
                _put(values, path.split("."), value)
    unknown = sorted(set(retrieve) - set(values["retrieve"]))
    if unknown:
        raise InputError(
            "load", f"the setting {unknown[0]!r}", f"some of {', '.join(values['retrieve'])}"
        )
    values["retrieve"].update(retrieve)
    return build(Config, values, "config")


def _put(values: dict[str, Any], names: Sequence[str], value: Any) -> None:
    for name in names[:-1]:
        values = values.setdefault(name, {})
    values[names[-1]] = value
