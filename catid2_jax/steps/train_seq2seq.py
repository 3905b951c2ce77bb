"""Step 4: stage 2, a network learns query -> ID (Eq. 9), from texts or from vectors."""

import functools
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from catid2_jax.checkpoints.bert import copy_without_weights
from catid2_jax.checkpoints.folder import load_pretrained
from catid2_jax.checkpoints.trained import read_codebooks
from catid2_jax.config import Config
from catid2_jax.data.catalog import product_text
from catid2_jax.data.corpus import Catalog, QuerySet
from catid2_jax.data.preprocessing import keep_grades
from catid2_jax.data.queries import read_queries, relevant_grades
from catid2_jax.docids.vocabulary import Vocabulary, character_counts, train_vocabulary
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write
from catid2_jax.loading import TRAINED_READS, load_queries, load_stage2, random_params
from catid2_jax.models.t5.sharding import check_divisible
from catid2_jax.processes import first_alone
from catid2_jax.progress import console
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.seq2seq.training import SEQ2SEQ, Stage2, train_decoder
from catid2_jax.steps.continued import earlier_params, earlier_vocabulary
from catid2_jax.workdir import (
    VOCABULARY,
    Place,
    Record,
    Workdir,
    built_on,
    check_files,
    finish,
    first_difference,
    read_record,
    record_path,
    shared_place,
    write_record,
)

READS = (*TRAINED_READS, "docids.checkpoint", "data.preprocessing")


def run(config: Config, place: Place) -> None:
    """Trains on the query -> ID and title -> ID pairs to the last epoch."""
    section = config.seq2seq
    prepare_tokens(config, place)
    stage = load_stage2(config, place)
    check_divisible(config.t5, stage.source.vocabulary.rows, section.model_devices)
    try:
        train_decoder(
            stage,
            load_queries(place, "train"),
            _dev_queries(config, place),
            section,
            config.seq2seq_training,
            place.model / SEQ2SEQ,
            config.seed,
            functools.partial(_starting_params, config, place, stage),
        )
    except InputError as error:
        if hasattr(config.seq2seq_training, error.where):
            raise error.within("config.seq2seq_training") from error
        raise


def prepare_tokens(config: Config, place: Place) -> None:
    """Makes what texts become tokens by: a vocabulary, or the tokens of the pretrained encoder."""
    section = config.seq2seq
    if section.pretrained_encoder:
        copy = functools.partial(copy_without_weights, section.pretrained_encoder, place.encoder)
        first_alone(copy)
    elif not (config.t5.memory_tokens or section.vocabulary):
        first_alone(functools.partial(_make_vocabulary, section, place.workdir))


def _dev_queries(config: Config, place: Place) -> QuerySet | None:
    """The dev queries with their relevant products, if there are any and they are asked for."""
    if not (config.seq2seq.evaluation.queries and place.workdir.queries("dev").exists()):
        return None
    dev = load_queries(place, "dev")
    relevant = relevant_grades(config.data.preprocessing.relevant_labels)
    return QuerySet(dev.queries, keep_grades(dev.qrels, relevant), dev.vectors)


def _starting_params(config: Config, place: Place, stage: Stage2) -> Any:
    """Parameters that are random, or pretrained as far as the configuration says."""
    section, vocabulary = config.seq2seq, stage.source.vocabulary
    if section.continue_from:
        earlier = pathlib.Path(section.continue_from) / place.model.name
        return earlier_params(earlier, stage.decoder, stage.source, stage.table)
    if not section.pretrained or not isinstance(vocabulary, Vocabulary):
        return random_params(section, stage.decoder, stage.source, config.seed)
    codebooks = None
    if section.id_rows == "codebooks":
        codebooks = read_codebooks(place.model, config.docids.checkpoint)
    return load_pretrained(section.pretrained, config.t5, vocabulary, codebooks, config.seed)


def _make_vocabulary(section: Seq2SeqConfig, workdir: Workdir) -> None:
    """Trains the work directory's vocabulary, or takes an earlier one, unless it is done.

    Raises:
        InputError: it has changed since, or was made with another size.
    """
    path, place = record_path(workdir.root, VOCABULARY), shared_place(workdir.root)
    texts_of = built_on("embed", place)  # what `prepare` left
    made: dict[str, Any] = {"seq2seq.vocabulary_size": section.vocabulary_size}
    if section.continue_from:
        made = {"seq2seq.continue_from": section.continue_from}
    record, new = read_record(path), Record(made, built_on=texts_of)
    if record and record.done:
        check_files(path)
        difference = first_difference(record.config, new.config)
        if difference:
            raise InputError(
                workdir.root,
                f"its vocabulary, which was made with {difference}",
                "the same, or another --workdir",
            )
        return
    start = time.monotonic()
    texts = list(vocabulary_texts(workdir))
    if section.continue_from:
        model = earlier_vocabulary(pathlib.Path(section.continue_from)).read_bytes()
    else:
        console.print("training a SentencePiece vocabulary on the catalogue and the queries ...")
        try:
            model = train_vocabulary(texts, section.vocabulary_size)
        except InputError as error:
            raise error.within("config.seq2seq") from error
    with atomic_write(workdir.vocabulary, "wb") as file:
        file.write(model)
    counts = character_counts(texts)
    uncovered = Vocabulary(workdir.vocabulary, 0, 0).uncovered(counts)
    if uncovered:
        console.print(
            f"{len(uncovered):,} of {len(counts):,} different characters have no piece, "
            f"{uncovered.total():,} of {counts.total():,} in the texts: rare ones are left out"
        )
    left = (workdir.vocabulary.name,)
    write_record(path, finish(new, workdir.root, left, time.monotonic() - start))


def vocabulary_texts(workdir: Workdir) -> Iterator[str]:
    """Yields the texts that a work directory's vocabulary is trained on."""
    for product in Catalog.open(workdir.catalog):
        yield product_text(product, True)
    for query in read_queries(workdir.queries("train")):
        yield query.text
