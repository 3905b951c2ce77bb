"""What later steps read of the user's, checked before anything is trained."""

import pathlib
from collections.abc import Collection, Iterable

import numpy as np

from catid2_jax.checkpoints.bert import read_bert_config
from catid2_jax.checkpoints.wordpiece import read_tokenizer
from catid2_jax.config import Config
from catid2_jax.data.corpus import Catalog
from catid2_jax.data.queries import read_queries
from catid2_jax.decoding.filters import FIELDS
from catid2_jax.docids.vocabulary import (
    Vocabulary,
    character_counts,
    smallest_vocabulary,
    too_small,
)
from catid2_jax.encoders.config import PRECOMPUTED
from catid2_jax.encoders.precomputed import read_embeddings
from catid2_jax.resolution import ResolvedSystem
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.steps.continued import check_earlier, earlier_vocabulary
from catid2_jax.steps.retrieve import read_filters
from catid2_jax.steps.train_seq2seq import vocabulary_texts
from catid2_jax.workdir import Workdir


def check_inputs(workdir: Workdir, systems: Collection[ResolvedSystem], steps: set[str]) -> None:
    """Checks the files and sizes that the steps after `prepare` will ask for.

    Args:
        workdir: with the prepared data.
        systems: what will be trained and searched.
        steps: the names of the steps that will run.

    Raises:
        InputError: as the step itself would raise it later, for a file that cannot be read or
            does not fit, or for a vocabulary that is too small.
    """
    configs = [system.config for system in systems]
    trained = [system.config for system in systems if system.is_trained]
    if "retrieve" in steps:
        for config in _different(configs, "retrieve"):
            _check_search(config, workdir)
    if "train_seq2seq" in steps:
        for system in systems:
            if system.is_trained and system.model_name and system.config.seq2seq.continue_from:
                check_earlier(system.config, system.model_name)
        for config in _different(trained, "seq2seq"):
            if not config.t5.memory_tokens:
                _check_vocabulary(config.seq2seq, workdir)


def _different(configs: Iterable[Config], section: str) -> list[Config]:
    """The first configuration of those that are equal in a section."""
    found: list[Config] = []
    for config in configs:
        if all(getattr(config, section) != getattr(other, section) for other in found):
            found.append(config)
    return found


def _check_search(config: Config, workdir: Workdir) -> None:
    """Checks the queries, their vectors and their filters."""
    section, embedding = config.retrieve, config.embedding
    queries = read_queries(section.queries or workdir.queries("test"))
    if section.query_vectors:
        width = 0
        if embedding.encoder == PRECOMPUTED:
            width = np.load(embedding.path, allow_pickle=False, mmap_mode="r").shape[1]
        read_embeddings(section.query_vectors, len(queries), "query", width)
    filtered = any(query.extra.keys() & set(FIELDS) for query in queries)
    if filtered or any(getattr(section, name) for name in FIELDS):
        read_filters(section, queries, Catalog.open(workdir.catalog))


def _check_vocabulary(section: Seq2SeqConfig, workdir: Workdir) -> None:
    """Checks that there are tokens of text, or will be."""
    if section.pretrained_encoder:
        read_bert_config(section.pretrained_encoder)
        read_tokenizer(pathlib.Path(section.pretrained_encoder))
    elif section.continue_from and not section.vocabulary:
        earlier_vocabulary(pathlib.Path(section.continue_from))
    elif section.vocabulary:
        Vocabulary(section.vocabulary, 0, 0, section.extra_ids)
    elif not workdir.vocabulary.exists():
        needed = smallest_vocabulary(character_counts(vocabulary_texts(workdir)))
        if needed > section.vocabulary_size:
            raise too_small(section.vocabulary_size, needed).within("config.seq2seq")
