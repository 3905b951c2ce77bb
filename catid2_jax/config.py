"""Every field of a configuration, with its default and its reason, in one place.

A configuration file (`configs/*.py`) starts from `default_config()` and changes fields;
`--config.<section>.<field>=value` changes them from the command line. Behind the entry points
only the frozen `Config` is seen.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import ml_collections

from catid2_jax.data.catalog import PRODUCT_FIELDS
from catid2_jax.data.preprocessing import PreprocessingConfig
from catid2_jax.data.synthetic import SyntheticConfig
from catid2_jax.seq2seq.decoder import Scores
from catid2_jax.models.param_dtype import Weights
from catid2_jax.docids.collisions import CollisionConfig
from catid2_jax.errors import InputError
from catid2_jax.losses import LossWeights
from catid2_jax.models.rqvae import RQVAEConfig
from catid2_jax.models.t5.config import T5Config
from catid2_jax.training.checkpoint import Which
from catid2_jax.training.optimizer import TrainingConfig
from catid2_jax.seq2seq.step import Seq2SeqObjective

Section = TypeVar("Section")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data, and the paper's preprocessing of it.

    Attributes:
        catalog: JSON Lines (may be gzipped) or Parquet; empty for the built-in synthetic catalogue,
            then the other paths must be empty too.
        train_queries: JSON Lines of `id` and `text`.
        train_qrels: TREC qrels of the training queries.
        dev_queries: likewise; may be empty.
        dev_qrels: likewise; may be empty.
        test_queries: likewise.
        test_qrels: likewise.
        on_error: "raise" stops at the first bad line of the catalogue; "skip" sets bad lines aside
            in `data/rejected.jsonl` of the work directory and counts them.
        preprocessing: see `PreprocessingConfig`.
        synthetic: size of the built-in catalogue.
    """

    catalog: str = ""
    train_queries: str = ""
    train_qrels: str = ""
    dev_queries: str = ""
    dev_qrels: str = ""
    test_queries: str = ""
    test_qrels: str = ""
    on_error: Literal["raise", "skip"] = "raise"
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    synthetic: SyntheticConfig = SyntheticConfig()

    def __post_init__(self) -> None:
        paths = [
            f.name for f in dataclasses.fields(self) if f.name.endswith(("_queries", "_qrels"))
        ]
        for name in paths:
            present = bool(getattr(self, name))
            if present and not self.catalog:
                raise InputError(f"{name} is given and catalog is not: expected both or neither")
            if self.catalog and not present and not name.startswith("dev_"):
                raise InputError(f"{name} is empty: expected a path, since catalog is given")
        if bool(self.dev_queries) != bool(self.dev_qrels):
            raise InputError("one of dev_queries and dev_qrels is empty: expected both or neither")


@dataclasses.dataclass(frozen=True)
class EmbeddingConfig:
    """How documents become vectors.

    Attributes:
        encoder: "lsa" (TF-IDF and truncated SVD; no weights), "t5" (mean of the encoder's last
            hidden states), "sentence_transformers" (a model of that library) or "precomputed".
        path: for "t5" a checkpoint in T5X's or Hugging Face's form or another work directory; for
            "sentence_transformers" a model's folder or name; for "precomputed" an .npy of
            [documents, width] in the catalogue's order.
        vocabulary: SentencePiece model of "t5"; empty for the one that lies with its checkpoint.
        train_query_vectors: .npy of [queries, width], a row per line of `data.train_queries`, by
            the encoder that made `path`, for "precomputed" and a network that reads vectors
            (`t5.memory_tokens`); "t5" and "sentence_transformers" make them themselves.
        dev_query_vectors: likewise, of `data.dev_queries`.
        test_query_vectors: likewise, of `data.test_queries`; also for `retrieve.expand_level`.
        dim: width of "lsa".
        fields: what the text of a document is made of, in this order: "title", "text",
            "categories" and any further field of the catalogue.
        with_categories: whether the category path is part of the text (Table 4); False leaves it
            out whatever `fields` says.
        field_characters: a longer field is cut there by itself, so that it costs those after it no
            place before `max_tokens`; 0 keeps fields whole.
        max_tokens: longer texts are cut there, or at a sentence-transformers model's own limit if
            that is lower; how many are is reported.
        batch_tokens: of a batch, padding included: short texts make batches of more documents.
        shard_documents: documents after which the vectors so far are on disk for good.
        standardize: unit variance per dimension before the RQ-VAE; without it p^l is nearly uniform
            and the codes are free to collapse.
    """

    encoder: Literal["lsa", "t5", "sentence_transformers", "precomputed"] = "lsa"
    path: str = ""
    vocabulary: str = ""
    train_query_vectors: str = ""
    dev_query_vectors: str = ""
    test_query_vectors: str = ""
    dim: int = 256
    fields: tuple[str, ...] = PRODUCT_FIELDS
    with_categories: bool = True
    field_characters: int = 0
    max_tokens: int = 256
    batch_tokens: int = 16_384
    shard_documents: int = 2048
    standardize: bool = True

    def __post_init__(self) -> None:
        if (self.encoder == "lsa") == bool(self.path):
            raise InputError(
                f"encoder is {self.encoder!r} and path is {self.path!r}: expected none for 'lsa' "
                "and a path otherwise"
            )
        if self.vocabulary and self.encoder != "t5":
            raise InputError(
                f"vocabulary is {self.vocabulary!r} and encoder is {self.encoder!r}: expected 't5'"
            )
        for name in ("train_query_vectors", "dev_query_vectors", "test_query_vectors"):
            if getattr(self, name) and self.encoder != "precomputed":
                raise InputError(
                    f"{name} is {getattr(self, name)!r} and encoder is {self.encoder!r}: expected "
                    "'precomputed', since one encoder makes all vectors"
                )
        if not self.text_fields or len(set(self.fields)) < len(self.fields):
            raise InputError(
                f"fields is {self.fields} and with_categories is {self.with_categories}: expected "
                "one field or more, each once"
            )
        for name, least in {"max_tokens": 2, "field_characters": 0}.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}: expected at least {least}")
        for name in ("dim", "batch_tokens", "shard_documents"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: expected at least 1")

    @property
    def is_network(self) -> bool:
        """Whether the encoder can make a vector of any text, a query's too."""
        return self.encoder in ("t5", "sentence_transformers")

    @property
    def text_fields(self) -> tuple[str, ...]:
        """`fields` as `with_categories` leaves them."""
        return tuple(name for name in self.fields if self.with_categories or name != "categories")


@dataclasses.dataclass(frozen=True)
class DocidsConfig:
    """Where document IDs come from.

    Attributes:
        path: a docids.jsonl made elsewhere, for this catalogue; empty to assign with stage 1.
        previous: docids.jsonl of an earlier state of this catalogue, in the work directory that
            made it: its stage 1 is used again and unchanged products keep their IDs, see
            `docids.living`. Empty to train stage 1.
        grace: updates for which the ID of a product that is gone or has changed rests before
            another product may have it: a week of daily ones.
        checkpoint: which state of stage 1 assigns, the last or, by
            `rqvae_training.best_metric`, the best.
        collisions: see `CollisionConfig`.
    """

    path: str = ""
    previous: str = ""
    grace: int = 7
    checkpoint: Which = "last"
    collisions: CollisionConfig = CollisionConfig()

    def __post_init__(self) -> None:
        if self.path and self.previous:
            raise InputError(
                f"path is {self.path!r} and previous is {self.previous!r}: expected one at most"
            )
        if self.grace < 0:
            raise InputError(f"grace is {self.grace}: expected at least 0")


@dataclasses.dataclass(frozen=True)
class Seq2SeqConfig:
    """What stage 2 starts and learns from.

    Where `t5.memory_tokens` says that the network reads vectors, the fields on text are not used.

    Attributes:
        pretrained: a T5 to start from, in T5X's or Hugging Face's form or another work directory,
            of the shape that `t5` says; empty for random parameters.
        id_rows: rows of the ID tokens in it, which it lacks: drawn with the mean and spread of the
            text's ("statistics"), or turned from stage 1's codebooks.
        vocabulary: a SentencePiece model, that of `pretrained`; empty to train one on the catalogue
            and the training queries.
        vocabulary_size: pieces of a trained one (fewer if the text has fewer).
        extra_ids: ids kept after the pieces; T5's own vocabulary has 100.
        source_tokens: longer queries and titles are cut; training encodes no padding.
        title_weight: loss weight of title -> ID pairs beside query -> ID pairs of weight 1; 0 for
            the paper's pairs only. A document that no training query finds is learnt from these.
            A network that reads vectors has the document's embedding in the title's place.
        substitute_weight: loss weight of pairs of grade S beside grade E's 1.
        objective: see `Seq2SeqObjective`.
        model_devices: devices that share one copy of the parameters; batches go over the others.
        evaluation_queries: dev queries whose Recall each evaluation measures, by the search that
            `retrieve` says; the first of them. 0 for no evaluations.
    """

    pretrained: str = ""
    id_rows: Literal["statistics", "codebooks"] = "statistics"
    vocabulary: str = ""
    vocabulary_size: int = 4000
    extra_ids: int = 0
    source_tokens: int = 32
    title_weight: float = 1.0
    substitute_weight: float = 1.0
    objective: Seq2SeqObjective = Seq2SeqObjective()
    model_devices: int = 1
    evaluation_queries: int = 0

    def __post_init__(self) -> None:
        if self.pretrained and not self.vocabulary:
            raise InputError(
                f"pretrained is {self.pretrained!r} and vocabulary is empty: expected the path of "
                "its SentencePiece model"
            )
        for name in ("vocabulary_size", "source_tokens", "model_devices"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: expected at least 1")
        for name in ("extra_ids", "title_weight", "substitute_weight", "evaluation_queries"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}: expected at least 0")


@dataclasses.dataclass(frozen=True)
class RetrieveConfig:
    """The constrained beam search.

    Attributes:
        queries: JSON Lines to retrieve for; empty for the test queries. A query may have lists
            `allow_ids`, `deny_ids`, `allow_categories`, `deny_categories` of its own, which add to
            the files below.
        beams: M.
        max_beams: a query whose k results are not proven to be the best is searched for again with
            twice the beams, up to this; 0 for a single search.
        k: documents per query in the run; at most `beams`, unless clusters are expanded.
        scores: what a code competes with for probability: the whole vocabulary ("full"), the codes
            of its level ("level", which is faster) or those that lead to a document ("valid").
        weights: in which type the network's matrices are kept: "float32", "bfloat16" or "int8".
        allow_ids: file of the ids of products that may be found, one per line, or JSON Lines with
            `id`; empty for all.
        deny_ids: file of the ids of products that may not.
        allow_categories: file of category paths ("Garden > Tools") whose products may be found, one
            per line, or JSON Lines with `categories`; empty for all.
        deny_categories: file of category paths whose products may not.
        query_vectors: .npy of [queries, width], a row per line of `queries`, made by the encoder of
            the products' embeddings; for `expand_level` and for a network that reads vectors. Those
            of the test queries are `embedding.test_query_vectors`.
        expand_level: codes to decode; the products beneath the `beams` best prefixes are then
            ranked by dense scores (section 4.7), fewer than `k` if they are fewer. 0 to decode
            whole IDs.
        batch_size: queries per call.
        output: the TREC run, relative to the work directory.
    """

    queries: str = ""
    query_vectors: str = ""
    beams: int = 100
    max_beams: int = 0
    k: int = 100
    scores: Scores = "full"
    weights: Weights = "float32"
    allow_ids: str = ""
    deny_ids: str = ""
    allow_categories: str = ""
    deny_categories: str = ""
    expand_level: int = 0
    batch_size: int = 64
    output: str = "run.trec"

    def __post_init__(self) -> None:
        if self.beams < 1 or self.batch_size < 1:
            raise InputError(
                f"beams is {self.beams} and batch_size is {self.batch_size}: expected at least 1"
            )
        if self.expand_level < 0:
            raise InputError(f"expand_level is {self.expand_level}: expected at least 0")
        if self.query_vectors and not self.queries:
            raise InputError(
                f"query_vectors is {self.query_vectors!r} and queries is empty: expected the path "
                "of their queries (the test's vectors are embedding.test_query_vectors)"
            )
        if self.k < 1 or (self.k > self.beams and not self.expand_level):
            raise InputError(f"k is {self.k}: expected 1 to beams = {self.beams}")
        if self.max_beams and (self.max_beams < self.beams or self.expand_level):
            raise InputError(
                f"max_beams is {self.max_beams}: expected at least beams = {self.beams}, or 0, and "
                "0 with expand_level"
            )


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """What is measured, and beside what.

    Attributes:
        cutoffs: k of Recall@k.
        baselines: "bm25", and "tiger" for the same pipeline with TIGER's loss in stage 1.
        examples: test queries printed with what was found.
        retrieval: whether stage 2 is trained and its Recall measured; False for the figures of the
            document IDs alone.
    """

    cutoffs: tuple[int, ...] = (5, 10, 20, 50, 100)
    baselines: tuple[str, ...] = ("bm25",)
    examples: int = 4
    retrieval: bool = True

    def __post_init__(self) -> None:
        for name in self.baselines:
            if name not in ("bm25", "tiger"):
                raise InputError(f"baselines has {name!r}: expected 'bm25', 'tiger' or both")


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run; each section's class says what its fields mean.

    Attributes:
        seed: of everything random.
        stage: which stage `train` brings to its end.
    """

    seed: int = 0
    stage: Literal["rqvae", "seq2seq"] = "rqvae"
    data: DataConfig = DataConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    rqvae: RQVAEConfig = RQVAEConfig()
    loss_weights: LossWeights = LossWeights()
    rqvae_training: TrainingConfig = TrainingConfig()
    docids: DocidsConfig = DocidsConfig()
    seq2seq: Seq2SeqConfig = Seq2SeqConfig()
    t5: T5Config = T5Config()
    seq2seq_training: TrainingConfig = TrainingConfig(
        batch_size=256, epochs=10, learning_rate=1e-3, weight_decay=0.0, max_gradient_norm=1.0
    )
    retrieve: RetrieveConfig = RetrieveConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    def __post_init__(self) -> None:
        positions = self.seq2seq.objective.position_weights
        if positions and len(positions) != self.rqvae.levels:
            raise InputError(
                f"seq2seq.objective.position_weights is {positions}: expected one for each of "
                f"rqvae.levels = {self.rqvae.levels} codes"
            )
        if self.t5.memory_tokens and self.seq2seq.pretrained:
            raise InputError(
                f"seq2seq.pretrained is {self.seq2seq.pretrained!r} and t5.memory_tokens is "
                f"{self.t5.memory_tokens}: expected one at most, a pretrained T5 reads text"
            )
        self._check_query_vectors()

    def _check_query_vectors(self) -> None:
        """Raises InputError unless vectors of queries are given where they are needed."""
        memory, level = self.t5.memory_tokens, self.retrieve.expand_level
        others = bool(self.retrieve.queries)
        needed = {
            "embedding.train_query_vectors": memory,
            "embedding.dev_query_vectors": memory and self.seq2seq.evaluation_queries,
            "embedding.test_query_vectors": (memory or level) and not others,
            "retrieve.query_vectors": (memory or level) and others,
        }
        for name, is_needed in needed.items():
            section, field = name.split(".")
            given = getattr(getattr(self, section), field) or self.embedding.is_network
            if is_needed and not given:
                raise InputError(
                    f"{name} is empty, t5.memory_tokens is {memory} and retrieve.expand_level is "
                    f"{level}: expected a path, or 0 for both"
                )
        if self.retrieve.query_vectors and not (memory or level):
            raise InputError(
                f"retrieve.query_vectors is {self.retrieve.query_vectors!r} and both "
                "t5.memory_tokens and retrieve.expand_level are 0: expected none"
            )


def default_config() -> ml_collections.ConfigDict:
    """The defaults as a ConfigDict, which a configuration file then changes."""
    return ml_collections.ConfigDict(as_nested_dict(Config()))


def as_nested_dict(section: Any) -> dict[str, Any]:
    """A section's fields, its sub-sections as dictionaries, tuples kept."""
    return {
        field.name: as_nested_dict(value) if dataclasses.is_dataclass(value) else value
        for field in dataclasses.fields(section)
        for value in [getattr(section, field.name)]
    }


def set_two_core_size(config: ml_collections.ConfigDict) -> None:
    """Sizes both stages for a catalogue of thousands and minutes on two CPU cores."""
    # The paper's 2048-1024-...-64 is for 768-dimensional embeddings of 386,392 products.
    config.rqvae.hidden_dims = (512, 256, 128, 64)
    config.rqvae_training.batch_size = 1024
    config.rqvae_training.checkpoint_every = 200
    config.rqvae_training.evaluate_every = 500
    # A network of T5 1.1's shape that learns language from the catalogue and the queries alone.
    config.t5.update(
        emb_dim=128,
        num_heads=4,
        head_dim=32,
        mlp_dim=256,
        num_encoder_layers=2,
        num_decoder_layers=2,
        dropout_rate=0.1,
    )
    config.seq2seq.source_tokens = 16
    config.seq2seq.objective.source_dropout = 0.3
    config.seq2seq_training.update(
        batch_size=128,
        epochs=3,
        learning_rate=2e-3,
        warmup_steps=300,
        schedule="cosine",
        checkpoint_every=200,
    )


def set_vector_size(config: ml_collections.ConfigDict) -> None:
    """Makes stage 2 a decoder on query vectors, which learns in minutes on two CPU cores."""
    config.t5.memory_tokens = 4
    config.t5.num_encoder_layers = 0  # the vectors' encoder is the encoder
    config.seq2seq.objective.source_dropout = 0.0
    config.seq2seq_training.update(batch_size=256, epochs=6, warmup_steps=60)


def set_data_directory(config: ml_collections.ConfigDict, directory: str, encoder: str) -> None:
    """Points at a data set of the usual file names, with an encoder's vectors.

    Args:
        config: changed in place.
        directory: holds catalog.jsonl, queries.<split>.jsonl and qrels.<split>.txt for the splits
            train, dev and test, and catalog.<encoder>.npy and queries.<split>.<encoder>.npy.
        encoder: name of the encoder in these.
    """
    config.data.catalog = f"{directory}/catalog.jsonl"
    for split in ("train", "dev", "test"):
        config.data[f"{split}_queries"] = f"{directory}/queries.{split}.jsonl"
        config.data[f"{split}_qrels"] = f"{directory}/qrels.{split}.txt"
        vectors = f"{directory}/queries.{split}.{encoder}.npy"
        config.embedding[f"{split}_query_vectors"] = vectors
    config.embedding.encoder = "precomputed"
    config.embedding.path = f"{directory}/catalog.{encoder}.npy"


def freeze(config: ml_collections.ConfigDict) -> Config:
    """The frozen, checked form of a configuration.

    Raises:
        InputError: an unknown or missing field, or a value out of its range; with the field's path.
    """
    return _build(Config, config.to_dict(), "config")


def _build(section: type[Section], values: Mapping[str, Any], path: str) -> Section:
    hints = typing.get_type_hints(section)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise InputError(f"found {path}.{unknown[0]}, expected one of {', '.join(hints)}")
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            arguments[name] = _build(hint, value, f"{path}.{name}")
            continue
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else None
        if choices and value not in choices:
            expected = ", ".join(map(repr, choices))
            raise InputError(f"{path}.{name} is {value!r}: expected one of {expected}")
        arguments[name] = tuple(value) if isinstance(value, list) else value
    try:
        return section(**arguments)
    except InputError as error:
        raise InputError(f"{path}.{error}") from error
