"""Stage 2 from pairs to trained parameters."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.data.corpus import Corpus, QuerySet
from catid2_jax.docids.table import DocidTable
from catid2_jax.docids.vocabulary import PAD
from catid2_jax.errors import InputError
from catid2_jax.models.bert_t5 import BERT
from catid2_jax.models.t5.sharding import partition_specs
from catid2_jax.ops.mesh import DATA_AXIS
from catid2_jax.progress import console
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.seq2seq.decoder import Decoder
from catid2_jax.seq2seq.evaluation import make_recall_evaluator
from catid2_jax.seq2seq.pairs import pseudo_queries, training_pairs
from catid2_jax.seq2seq.source import Source
from catid2_jax.seq2seq.step import Seq2SeqData, count_packed_tokens, make_seq2seq_step
from catid2_jax.training.checkpoint import Checkpoints, Which
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer, with_rate_of
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.training.sharding import data_mesh

SEQ2SEQ = "seq2seq"
"""Name of the folder of stage 2's checkpoints."""


@dataclasses.dataclass(frozen=True)
class Stage2:
    """What stage 2 is made of.

    Attributes:
        corpus: the products.
        table: their document IDs.
        source: the form in which the network reads queries and products.
        decoder: the network.
    """

    corpus: Corpus
    table: DocidTable
    source: Source
    decoder: Decoder


def make_data(
    stage: Stage2, queries: QuerySet, config: Seq2SeqConfig, seed: int = 0
) -> Seq2SeqData:
    """The training pairs with their sources and targets.

    Args:
        stage: what is trained, on what.
        queries: the training queries and their relevant products.
        config: the kinds of pairs and their weights.
        seed: seed of the draw of pseudo-queries.

    Raises:
        InputError: no pair has a weight, or the sources cannot be made.
    """
    catalog, weights = stage.corpus.catalog, config.pair_weights
    pairs = training_pairs(queries.ids, queries.qrels, catalog.rows, weights)
    sources = stage.source.of_queries(queries.texts, queries.vectors, "train queries")
    if weights.title:
        sources = np.concatenate([sources, stage.source.of_products(stage.corpus)])
    texts, rows = _pseudo_queries(stage, config, seed)
    if texts:
        pairs = pairs.with_sources(len(sources), rows, config.pseudo_query_weight)
        found = stage.source.of_queries(texts, name="pseudo-queries")
        sources = np.concatenate([sources, found])
    targets = stage.source.vocabulary.encode_codes(stage.table.codes)
    ends = bool(np.any(targets == PAD))
    return Seq2SeqData(sources, targets, pairs.source, pairs.document, pairs.weight, ends=ends)


def _pseudo_queries(
    stage: Stage2, config: Seq2SeqConfig, seed: int
) -> tuple[list[str], np.ndarray]:
    """The pseudo-queries that are asked for, and the row of the product of each."""
    if not (config.pseudo_queries and config.pseudo_query_weight):
        return [], np.empty(0, np.int64)
    if not stage.source.reads_texts:
        console.print("no encoder of texts: there are no pseudo-queries")
        return [], np.empty(0, np.int64)
    generator = np.random.default_rng([seed, 7])
    return pseudo_queries(stage.corpus.catalog.titles, config.pseudo_queries, generator)


def train_decoder(
    stage: Stage2,
    queries: QuerySet,
    dev: QuerySet | None,
    config: Seq2SeqConfig,
    training: TrainingConfig,
    directory: pathlib.Path,
    seed: int,
    starting_params: Callable[[], Any],
) -> None:
    """Trains on query -> ID and title -> ID pairs (Eq. 9) to the last epoch.

    Args:
        stage: what is trained, on what.
        queries: the training queries and their relevant products.
        dev: queries with their relevant products for `config.evaluation`; None for none.
        config: pairs, loss and evaluation.
        training: optimizer, batches and epochs.
        directory: where the checkpoints go, from which an interrupted training goes on.
        seed: seed of everything random.
        starting_params: makes the parameters to start from, where there is no checkpoint.

    Raises:
        InputError: settings that do not go together, or no pair has a weight.
    """
    _check(stage.table, config, training)
    data, catalog = make_data(stage, queries, config, seed), stage.corpus.catalog
    vocabulary = stage.source.vocabulary
    console.print(
        f"{len(data.source):,} pairs, {len(data.sources):,} {stage.source.described} and "
        f"{vocabulary.levels} x {vocabulary.codebook_size} ID tokens"
    )
    mesh = data_mesh(config.model_devices)
    devices = mesh.shape[DATA_AXIS]
    batch_size = training.batch_of(len(data.source))
    sampler = EpochSampler(len(data.source), batch_size, seed, devices)
    steps = training.total_steps(sampler.steps_per_epoch)
    packed = count_packed_tokens(data, sampler, steps, devices, config.objective.microbatches)
    optimizer = make_optimizer(training, steps)
    if config.pretrained_encoder:
        optimizer = with_rate_of(optimizer, BERT, config.encoder_learning_rate)
    best = training.best_metric, training.best_mode, training.best_margin
    with Checkpoints(directory, *best) as checkpoints:
        fresh = checkpoints.latest_step is None
        params = starting_params() if fresh else _initialize(stage, seed)
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        train(
            make_seq2seq_step(stage.decoder, optimizer, config.objective, seed),
            state,
            dataclasses.replace(data, packed_tokens=packed),
            sampler,
            training,
            checkpoints,
            "training stage 2",
            _evaluator(stage, dev, config),
            mesh=mesh,
            specs=partition_specs(state),
            document_ids=lambda pairs: [catalog.ids[row] for row in data.document[pairs]],
        )


def load_params(
    decoder: Decoder,
    source: Source,
    training: TrainingConfig,
    directory: pathlib.Path,
    which: Which,
) -> Any:
    """The trained parameters of a decoder.

    Raises:
        InputError: there are none, or they are of another network.
    """
    optimizer = make_optimizer(training, 1)

    def template() -> TrainState:
        params = decoder.initialize(jax.random.key(0), source.form)
        return TrainState(jnp.int32(0), params, optimizer.init(params))

    with Checkpoints(directory, read_only=True) as checkpoints:
        return checkpoints.restore(jax.eval_shape(template), which).params


def _initialize(stage: Stage2, seed: int) -> Any:
    return stage.decoder.initialize(jax.random.key(seed), stage.source.form)


def _check(table: DocidTable, config: Seq2SeqConfig, training: TrainingConfig) -> None:
    """Raises InputError for settings that say nothing together."""
    positions = config.objective.position_weights
    if positions and len(positions) != table.levels:
        raise InputError(
            "position_weights", positions, f"one for each of the {table.levels} codes of an ID"
        )
    figures = config.evaluation.figures
    if config.evaluation.queries and training.best_metric not in ("", *figures):
        raise InputError(
            "best_metric", repr(training.best_metric), f"one of {', '.join(figures)}, or ''"
        )


def _evaluator(stage: Stage2, dev: QuerySet | None, config: Seq2SeqConfig) -> Any:
    """Recall on the first dev queries, if the configuration asks for it."""
    count = config.evaluation.queries
    if not count:
        return None
    if dev is None:
        raise InputError("evaluation.queries", f"{count} and no dev queries", "dev queries, or 0")
    sources = stage.source.of_queries(dev.texts, dev.vectors, "dev queries")
    rows = [row for row, query in enumerate(dev.ids) if query in dev.qrels][:count]
    qrels = {dev.ids[row]: dev.qrels[dev.ids[row]] for row in rows}
    return make_recall_evaluator(
        stage.decoder,
        stage.table,
        sources[rows],
        qrels,
        config.evaluation,
        config.objective.normalize_over,
    )
