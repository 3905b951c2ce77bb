"""Step 5: stage 2, T5 learns query -> ID (Eq. 9), from texts or from vectors."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.checkpoints.folder import load_pretrained
from catid2_jax.checkpoints.trained import read_codebooks
from catid2_jax.config import Config
from catid2_jax.data.catalog import product_text, read_catalog
from catid2_jax.data.preprocessing import keep_grades
from catid2_jax.data.queries import read_qrels, read_queries, relevant_grades
from catid2_jax.docids.table import DocidTable, read_docids
from catid2_jax.docids.vocabulary import CodeVocabulary, Vocabulary, train_vocabulary
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write
from catid2_jax.models.t5.network import Transformer
from catid2_jax.models.t5.sharding import check_divisible, partition_specs
from catid2_jax.ops.mesh import DATA_AXIS
from catid2_jax.processes import first_alone
from catid2_jax.progress import console
from catid2_jax.steps.workdir import Workdir
from catid2_jax.training.checkpoint import Checkpoints, Which
from catid2_jax.training.loop import Evaluator, TrainState, train
from catid2_jax.training.optimizer import make_optimizer
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.seq2seq.evaluation import make_recall_evaluator
from catid2_jax.seq2seq.step import (
    Seq2SeqData,
    make_seq2seq_step,
    count_packed_tokens,
)
from catid2_jax.training.sharding import data_mesh
from catid2_jax.types import GRADES, Product, Query


def run(config: Config, workdir: Workdir) -> None:
    """Trains T5 on query -> ID and title -> ID pairs to the last epoch."""
    vocabulary = load_vocabulary(config, workdir)
    table = read_fitting_docids(workdir, vocabulary)
    data = build_pairs(config, workdir, table, vocabulary)
    text = isinstance(vocabulary, Vocabulary)
    sources = f"texts, {vocabulary.first_id_token:,} text ids" if text else "vectors"
    console.print(
        f"{len(data.source):,} pairs, {len(data.sources):,} {sources} and "
        f"{vocabulary.levels} x {vocabulary.codebook_size} ID tokens"
    )
    training = config.seq2seq_training
    model = Transformer(config.t5, vocabulary.rows)
    mesh = data_mesh(config.seq2seq.model_devices)
    check_divisible(config.t5, vocabulary.rows, config.seq2seq.model_devices)
    sampler = EpochSampler(
        len(data.source), training.batch_size, config.seed, mesh.shape[DATA_AXIS]
    )
    objective = config.seq2seq.objective
    packed_tokens = count_packed_tokens(
        data, sampler, training.epochs, mesh.shape[DATA_AXIS], objective.microbatches
    )
    optimizer = make_optimizer(training, training.epochs * sampler.steps_per_epoch)
    step = make_seq2seq_step(model, optimizer, objective, config.seed)
    evaluator = _evaluator(config, workdir, model, vocabulary, table)
    with Checkpoints(
        workdir.checkpoints("seq2seq"), training.best_metric, training.best_mode
    ) as checkpoints:
        if checkpoints.latest_step is None:
            params = starting_parameters(config, workdir, model, vocabulary)
        else:
            params = initialize(config, workdir, model)
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        train(
            step,
            state,
            dataclasses.replace(data, packed_tokens=packed_tokens),
            sampler,
            training,
            checkpoints,
            "training T5",
            evaluator,
            mesh,
            partition_specs(state),
        )


def starting_parameters(
    config: Config, workdir: Workdir, model: Transformer, vocabulary: CodeVocabulary
) -> dict:
    """Random parameters, or those of the pretrained T5 with rows for the ID tokens."""
    section = config.seq2seq
    if not section.pretrained or not isinstance(vocabulary, Vocabulary):
        return initialize(config, workdir, model)
    codebooks = None
    if section.id_rows == "codebooks":
        codebooks = read_codebooks(workdir.models, config.docids.checkpoint)
    return load_pretrained(section.pretrained, config.t5, vocabulary, codebooks, config.seed)


def _evaluator(
    config: Config,
    workdir: Workdir,
    model: Transformer,
    vocabulary: CodeVocabulary,
    table: DocidTable,
) -> Evaluator | None:
    """Recall on the first dev queries, if the configuration asks for it."""
    section, search = config.seq2seq, config.retrieve
    if not section.evaluation_queries:
        return None
    path = workdir.data / "queries.dev.jsonl"
    if not path.exists():
        raise InputError(
            f"config.seq2seq.evaluation_queries is {section.evaluation_queries} and there are no "
            "dev queries: expected config.data.dev_queries, or 0"
        )
    judged = keep_grades(
        read_qrels(workdir.data / "qrels.dev.txt"),
        relevant_grades(config.data.preprocessing.relevant_labels),
    )
    queries = read_queries(path)
    sources = query_sources(config, workdir, vocabulary, "dev", queries)
    rows = [row for row, query in enumerate(queries) if query.id in judged]
    rows = rows[: section.evaluation_queries]
    return make_recall_evaluator(
        model,
        vocabulary,
        table,
        sources[rows],
        {queries[row].id: judged[queries[row].id] for row in rows},
        search.beams,
        search.scores,
        config.evaluate.cutoffs,
    )


def initialize(config: Config, workdir: Workdir, model: Transformer) -> dict:
    """Random parameters of the network."""
    form = source_form(config, workdir)
    source, token = jnp.zeros((1, *form.shape), form.dtype), jnp.zeros((1, 1), jnp.int32)
    return model.init(jax.random.key(config.seed), source, model.source_mask(source), token)[
        "params"
    ]


def source_form(config: Config, workdir: Workdir) -> jax.ShapeDtypeStruct:
    """What the network reads of a query: int32 [S], its tokens, or float32 [D], its vector."""
    if not config.t5.memory_tokens:
        return jax.ShapeDtypeStruct((config.seq2seq.source_tokens,), jnp.int32)
    embeddings = np.load(workdir.embeddings, allow_pickle=False, mmap_mode="r")
    return jax.ShapeDtypeStruct(embeddings.shape[1:], jnp.float32)


def query_sources(
    config: Config,
    workdir: Workdir,
    vocabulary: CodeVocabulary,
    split: str,
    queries: Sequence[Query],
) -> np.ndarray:
    """What the network reads of a split's queries, all of them in their order."""
    if isinstance(vocabulary, Vocabulary):
        texts = [query.text for query in queries]
        return encode_sources(config, vocabulary, texts, f"{split} queries")
    return np.load(workdir.query_vectors(split), allow_pickle=False)


def load_vocabulary(config: Config, workdir: Workdir) -> CodeVocabulary:
    """The configured vocabulary, or the work directory's own, trained if need be.

    A network that reads vectors needs none of text.
    """
    section, rqvae = config.seq2seq, config.rqvae
    if config.t5.memory_tokens:
        return CodeVocabulary(rqvae.levels, rqvae.codebook_size)
    if not section.vocabulary:
        first_alone(functools.partial(_train_vocabulary, section.vocabulary_size, workdir))
    path = section.vocabulary or workdir.vocabulary
    return Vocabulary(path, rqvae.levels, rqvae.codebook_size, section.extra_ids)


def _train_vocabulary(size: int, workdir: Workdir) -> None:
    """Trains the work directory's vocabulary unless it is there."""
    if workdir.vocabulary.exists():
        return
    console.print("training a SentencePiece vocabulary on the catalogue and the queries ...")
    texts = [product_text(p, True) for p in read_catalog(workdir.data / "catalog.jsonl")]
    texts += [query.text for query in read_queries(workdir.data / "queries.train.jsonl")]
    model = train_vocabulary(texts, size)
    with atomic_write(workdir.vocabulary, "wb") as file:
        file.write(model)


def read_fitting_docids(workdir: Workdir, vocabulary: CodeVocabulary) -> DocidTable:
    """The table of document IDs.

    Raises:
        InputError: the IDs are not of the catalogue's products or not in the model's codes.
    """
    table = read_docids(workdir.docids)
    levels = table.codes.shape[1]
    if levels != vocabulary.levels or table.codes.max() >= vocabulary.codebook_size:
        raise InputError(
            f"{workdir.docids}: found IDs of {levels} codes up to {table.codes.max()}, expected "
            f"{vocabulary.levels} codes below {vocabulary.codebook_size} as the model has them"
        )
    ids = workdir.embeddings.with_suffix(".ids.txt").read_text(encoding="utf-8").split("\n")[:-1]
    if list(table.ids) != ids:
        pairs = zip([*table.ids, None], [*ids, None], strict=False)
        found, expected = next((own, other) for own, other in pairs if own != other)
        raise InputError(
            f"{workdir.docids}: found {len(table.ids)} IDs, the first that differs of product "
            f"{found!r}, expected one for each of the catalogue's {len(ids)} products in their "
            f"order, there {expected!r}"
        )
    return table


def build_pairs(
    config: Config, workdir: Workdir, table: DocidTable, vocabulary: CodeVocabulary
) -> Seq2SeqData:
    """Query -> document pairs of the training qrels and, if weighted, title -> document pairs.

    A network that reads vectors learns the products from their embeddings, not their titles.
    """
    section = config.seq2seq
    rows = {product_id: row for row, product_id in enumerate(table.ids)}
    queries = read_queries(workdir.data / "queries.train.jsonl")
    qrels = read_qrels(workdir.data / "qrels.train.txt")
    pairs = [
        (source, rows[document], section.substitute_weight if grade < GRADES["E"] else 1.0)
        for source, query in enumerate(queries)
        for document, grade in qrels[query.id].items()
    ]
    sources = query_sources(config, workdir, vocabulary, "train", queries)
    if section.title_weight:
        products = list(read_catalog(workdir.data / "catalog.jsonl"))
        pairs += [
            (len(queries) + i, rows[product.id], section.title_weight)
            for i, product in enumerate(products)
        ]
        sources = np.concatenate([sources, _product_sources(config, workdir, vocabulary, products)])
    pairs = [pair for pair in pairs if pair[2] > 0]
    if not pairs:
        raise InputError(
            f"{workdir.data / 'qrels.train.txt'}: found no pair with a weight, expected some (see "
            "config.seq2seq.title_weight and substitute_weight)"
        )
    source, document, weight = zip(*pairs, strict=True)
    return Seq2SeqData(
        sources=sources,
        targets=vocabulary.encode_codes(table.codes),
        source=np.array(source, np.int32),
        document=np.array(document, np.int32),
        weight=np.array(weight, np.float32),
    )


def _product_sources(
    config: Config, workdir: Workdir, vocabulary: CodeVocabulary, products: Sequence[Product]
) -> np.ndarray:
    """What the network reads of the catalogue's products."""
    if isinstance(vocabulary, Vocabulary):
        titles = [product.title for product in products]
        return encode_sources(config, vocabulary, titles, "titles")
    return np.load(workdir.embeddings, allow_pickle=False)


def encode_sources(
    config: Config, vocabulary: Vocabulary, texts: list[str], name: str
) -> np.ndarray:
    """Tokens of texts as the encoder reads them; says how many were cut."""
    length = config.seq2seq.source_tokens
    tokens, cut = vocabulary.encode_and_count(texts, length)
    if cut:
        console.print(f"{cut:,} of {len(texts):,} {name} cut to seq2seq.source_tokens = {length}")
    return tokens


def load_trained(
    config: Config, workdir: Workdir, vocabulary: CodeVocabulary, which: Which = "last"
) -> tuple[Transformer, dict]:
    """The network and its trained parameters."""
    model = Transformer(config.t5, vocabulary.rows)
    optimizer = make_optimizer(config.seq2seq_training, 1)

    def template() -> TrainState:
        params = initialize(config, workdir, model)
        return TrainState(jnp.int32(0), params, optimizer.init(params))

    with Checkpoints(workdir.checkpoints("seq2seq")) as checkpoints:
        return model, checkpoints.restore(jax.eval_shape(template), which).params
