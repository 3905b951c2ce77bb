"""Step 5: stage 2, T5 learns query -> ID (Eq. 9)."""

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
from catid2_jax.docids.vocabulary import Vocabulary, train_vocabulary
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write
from catid2_jax.models.t5.network import Transformer
from catid2_jax.models.t5.sharding import check_divisible, partition_specs
from catid2_jax.ops.mesh import DATA_AXIS
from catid2_jax.progress import console
from catid2_jax.steps.workdir import Workdir
from catid2_jax.training.checkpoint import Checkpoints, Which
from catid2_jax.training.loop import Evaluator, TrainState, train
from catid2_jax.training.optimizer import make_optimizer
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.training.seq2seq_evaluation import make_recall_evaluator
from catid2_jax.training.seq2seq_step import Seq2SeqData, make_seq2seq_step
from catid2_jax.training.sharding import data_mesh
from catid2_jax.types import GRADES


def run(config: Config, workdir: Workdir) -> None:
    """Trains T5 on query -> ID and title -> ID pairs to the last epoch."""
    vocabulary = load_vocabulary(config, workdir)
    table = read_docids(workdir.docids)
    data = build_pairs(config, workdir, table, vocabulary)
    console.print(
        f"{len(data.source):,} pairs, {len(data.sources):,} texts, "
        f"{vocabulary.first_id_token:,} text ids and {vocabulary.levels} x {vocabulary.codes} "
        "ID tokens"
    )
    training = config.seq2seq_training
    model = Transformer(config.t5, vocabulary.rows)
    mesh = data_mesh(config.seq2seq.model_devices)
    check_divisible(config.t5, vocabulary.rows, config.seq2seq.model_devices)
    sampler = EpochSampler(
        len(data.source), training.batch_size, config.seed, mesh.shape[DATA_AXIS]
    )
    optimizer = make_optimizer(training, training.epochs * sampler.steps_per_epoch)
    step = make_seq2seq_step(model, optimizer, config.seq2seq.objective, config.seed)
    evaluator = _evaluator(config, workdir, model, vocabulary, table)
    with Checkpoints(
        workdir.checkpoints("seq2seq"), training.best_metric, training.best_mode
    ) as checkpoints:
        if checkpoints.latest_step is None:
            params = starting_parameters(config, workdir, model, vocabulary)
        else:
            params = initialize(model, config.seed)
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        train(
            step,
            state,
            data,
            sampler,
            training,
            checkpoints,
            "training T5",
            evaluator,
            mesh,
            partition_specs(state),
        )


def starting_parameters(
    config: Config, workdir: Workdir, model: Transformer, vocabulary: Vocabulary
) -> dict:
    """Random parameters, or those of the pretrained T5 with rows for the ID tokens."""
    section = config.seq2seq
    if not section.pretrained:
        return initialize(model, config.seed)
    codebooks = None
    if section.id_rows == "codebooks":
        codebooks = read_codebooks(workdir.models, config.docids.checkpoint)
    return load_pretrained(section.pretrained, config.t5, vocabulary, codebooks, config.seed)


def _evaluator(
    config: Config, workdir: Workdir, model: Transformer, vocabulary: Vocabulary, table: DocidTable
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
    queries = [query for query in read_queries(path) if query.id in judged]
    queries = queries[: section.evaluation_queries]
    return make_recall_evaluator(
        model,
        vocabulary,
        table,
        vocabulary.encode([query.text for query in queries], section.source_tokens),
        {query.id: judged[query.id] for query in queries},
        search.beams,
        search.scores,
        config.evaluate.cutoffs,
    )


def initialize(model: Transformer, seed: int) -> dict:
    """Random parameters of the network."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    return model.init(jax.random.key(seed), tokens, tokens == 0, tokens)["params"]


def load_vocabulary(config: Config, workdir: Workdir) -> Vocabulary:
    """The configured vocabulary, or the work directory's own, trained if need be."""
    section, rqvae = config.seq2seq, config.rqvae
    path = section.vocabulary or workdir.vocabulary
    if not section.vocabulary and not workdir.vocabulary.exists():
        console.print("training a SentencePiece vocabulary on the catalogue and the queries ...")
        texts = [product_text(p, True) for p in read_catalog(workdir.data / "catalog.jsonl")]
        texts += [query.text for query in read_queries(workdir.data / "queries.train.jsonl")]
        model = train_vocabulary(texts, section.vocabulary_size)
        with atomic_write(workdir.vocabulary, "wb") as file:
            file.write(model)
    return Vocabulary(path, rqvae.levels, rqvae.codes, section.extra_ids)


def build_pairs(
    config: Config, workdir: Workdir, table: DocidTable, vocabulary: Vocabulary
) -> Seq2SeqData:
    """Query -> document pairs of the training qrels and, if weighted, title -> document pairs."""
    section = config.seq2seq
    rows = {product_id: row for row, product_id in enumerate(table.ids)}
    queries = read_queries(workdir.data / "queries.train.jsonl")
    qrels = read_qrels(workdir.data / "qrels.train.txt")
    texts = [query.text for query in queries]
    pairs = [
        (source, rows[document], section.substitute_weight if grade < GRADES["E"] else 1.0)
        for source, query in enumerate(queries)
        for document, grade in qrels[query.id].items()
    ]
    if section.title_weight:
        products = read_catalog(workdir.data / "catalog.jsonl")
        pairs += [
            (len(texts) + i, rows[product.id], section.title_weight)
            for i, product in enumerate(products)
        ]
        texts += [product.title for product in products]
    source, document, weight = zip(*[pair for pair in pairs if pair[2] > 0], strict=True)
    return Seq2SeqData(
        sources=vocabulary.encode(texts, section.source_tokens),
        targets=vocabulary.encode_codes(table.codes),
        source=np.array(source, np.int32),
        document=np.array(document, np.int32),
        weight=np.array(weight, np.float32),
    )


def load_trained(
    config: Config, workdir: Workdir, vocabulary: Vocabulary, which: Which = "last"
) -> tuple[Transformer, dict]:
    """The network and its trained parameters."""
    model = Transformer(config.t5, vocabulary.rows)
    optimizer = make_optimizer(config.seq2seq_training, 1)

    def template() -> TrainState:
        params = initialize(model, 0)
        return TrainState(jnp.int32(0), params, optimizer.init(params))

    with Checkpoints(workdir.checkpoints("seq2seq")) as checkpoints:
        return model, checkpoints.restore(jax.eval_shape(template), which).params
