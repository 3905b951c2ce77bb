"""A whole run's configuration: its sections, its defaults, and the checks between sections.

A configuration file (`configs/*.py`) starts from `default_config()` and changes fields;
`--config.<section>.<field>=value` changes them from the command line. Behind the entry points
only the frozen `Config` is seen. Each section's class says what its fields mean.
"""

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import ml_collections

from catid2_jax.constraints import Seed, check_fields, check_value, field_hints
from catid2_jax.data.config import DataConfig
from catid2_jax.encoders.config import PRECOMPUTED, EmbeddingConfig
from catid2_jax.encoders.registry import ENCODERS
from catid2_jax.errors import InputError
from catid2_jax.evaluation.config import EvaluateConfig
from catid2_jax.losses import LossWeights
from catid2_jax.models.rqvae import RQVAEConfig
from catid2_jax.models.t5.config import T5Config
from catid2_jax.plugins import check_name
from catid2_jax.retrievers.config import RetrieveConfig
from catid2_jax.retrievers.retriever import RETRIEVERS, retriever_options
from catid2_jax.schemes.config import RQVAE_TRAINING, DocidsConfig
from catid2_jax.schemes.rqvae.evaluation import figure_names
from catid2_jax.schemes.scheme import SCHEMES, resolve_scheme, scheme_options
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.seq2seq.decoder import DECODERS, resolve_normalize_over
from catid2_jax.training.optimizer import TrainingConfig

Section = TypeVar("Section")


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run.

    Attributes:
        seed: seed of everything random.
        stage: the step that `train` ends with: "docids" (stage 1) or "seq2seq" (stage 2).
        systems: what is trained and compared: names of rows of `systems.SYSTEMS`, or dotted paths
            of schemes, retrievers or rows of your own; with @SEED behind it, as in "tiger@1", for a
            seed that is not the run's.
        data: which data, and how they are preprocessed.
        embedding: how documents become vectors.
        rqvae: shape of stage 1's network.
        loss_weights: terms of stage 1's loss (Eq. 8).
        rqvae_training: how stage 1 is trained.
        docids: how documents get unique IDs.
        seq2seq: what stage 2 starts and learns from.
        t5: shape of stage 2's network.
        seq2seq_training: how stage 2 is trained.
        retrieve: how is searched.
        evaluate: what is measured.
        options: settings of single schemes and retrievers, by their short name, or by the name of
            the class where it is your own.
    """

    seed: Seed = 0
    stage: Literal["docids", "seq2seq"] = "docids"
    systems: tuple[str, ...] = ("cat_id2", "bm25")
    data: DataConfig = DataConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    rqvae: RQVAEConfig = RQVAEConfig()
    loss_weights: LossWeights = LossWeights()
    rqvae_training: TrainingConfig = RQVAE_TRAINING
    docids: DocidsConfig = DocidsConfig()
    seq2seq: Seq2SeqConfig = Seq2SeqConfig()
    t5: T5Config = T5Config()
    seq2seq_training: TrainingConfig = TrainingConfig(
        batch_size=256,
        epochs=10,
        learning_rate=1e-3,
        weight_decay=0.0,
        max_gradient_norm=1.0,
        best_metric="dev/recall@10",
    )
    retrieve: RetrieveConfig = RetrieveConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.systems or len(set(self.systems)) < len(self.systems):
            raise InputError("systems", self.systems, "one system or more, each once")
        check_name(self.embedding.encoder, (*ENCODERS, PRECOMPUTED), "embedding.encoder")
        check_name(self.seq2seq.decoder, DECODERS, "seq2seq.decoder")
        if self.docids.previous and self.embedding.encoder == "lsa":
            raise InputError(
                "embedding.encoder",
                "'lsa' with docids.previous, though it is fitted to each catalogue anew",
                "an encoder that gives a product the same vector again",
            )
        for name in ("pretrained", "pretrained_encoder"):
            path = getattr(self.seq2seq, name)
            if self.t5.memory_tokens and path:
                raise InputError(
                    f"seq2seq.{name}",
                    f"{path!r} with t5.memory_tokens = {self.t5.memory_tokens}",
                    "one of them at most: a pretrained network reads text",
                )
        if self.seq2seq.word_features and not self.t5.memory_tokens:
            raise InputError(
                "seq2seq.word_features",
                f"{self.seq2seq.word_features} with t5.memory_tokens = 0",
                "0, for stage 2 reads text",
            )
        try:
            resolve_normalize_over(
                self.retrieve.normalize_over, self.seq2seq.objective.normalize_over
            )
        except InputError as error:
            raise error.within("retrieve") from error
        objective = self.seq2seq.objective
        if objective.r_drop and not (self.t5.dropout_rate or objective.source_dropout):
            raise InputError(
                "seq2seq.objective.r_drop",
                f"{objective.r_drop} without dropout",
                "0, or t5.dropout_rate or seq2seq.objective.source_dropout above 0",
            )
        self._check_query_vectors()
        self._check_best_metrics()

    def _check_query_vectors(self) -> None:
        """Raises InputError unless stage 2 gets the query vectors that it reads."""
        memory, others = self.t5.memory_tokens, bool(self.retrieve.queries)
        if not reads_vectors(self) or self.embedding.encoder != PRECOMPUTED:
            if reads_vectors(self) and self.embedding.encoder == "lsa":
                raise InputError(
                    "t5.memory_tokens",
                    f"{memory} with encoder 'lsa', which encodes no queries",
                    "another encoder, seq2seq.word_features, or 0",
                )
            return
        needed = {
            "embedding.train_query_vectors": True,
            "embedding.dev_query_vectors": self.seq2seq.evaluation.queries > 0,
            "embedding.test_query_vectors": not others,
            "retrieve.query_vectors": others,
        }
        for name, is_needed in needed.items():
            section, field = name.split(".")
            if is_needed and not getattr(getattr(self, section), field):
                raise InputError(
                    name, f"'' with t5.memory_tokens = {memory}", "a path, or 0 memory tokens"
                )

    def _check_best_metrics(self) -> None:
        """Raises InputError for a figure that no evaluation gives."""
        stages = {"rqvae_training": figure_names(self.rqvae)}
        evaluation, metric = self.seq2seq.evaluation, self.seq2seq_training.best_metric
        if evaluation.queries or not metric.startswith("dev/recall@"):
            stages["seq2seq_training"] = evaluation.figures
        for section, names in stages.items():
            name = getattr(self, section).best_metric
            if name and name not in names:
                expected = f"one of {', '.join(names)}, or ''"
                raise InputError(f"{section}.best_metric", repr(name), expected)


def reads_vectors(config: Config) -> bool:
    """Whether stage 2 reads vectors of the queries, and not text, or their words alone."""
    words_alone = config.seq2seq.word_features and not config.embedding.has_query_vectors
    return bool(config.t5.memory_tokens) and not words_alone


SECTIONS = tuple(
    field.name
    for field in dataclasses.fields(Config)
    if dataclasses.is_dataclass(typing.get_type_hints(Config)[field.name])
)
"""Names of the sections."""


def default_config() -> ml_collections.ConfigDict:
    """The defaults as a ConfigDict, which a configuration file then changes."""
    config = ml_collections.ConfigDict(as_nested_dict(Config()))
    config.options = ml_collections.ConfigDict(default_options())
    return config


def default_options() -> dict[str, dict[str, Any]]:
    """Short name of each scheme and retriever that has options -> these with their defaults."""
    found = {name: scheme_options(resolve_scheme(name), SECTIONS) for name in SCHEMES}
    found |= {name: retriever_options(name) for name in RETRIEVERS}
    return {name: options for name, options in found.items() if options}


def as_nested_dict(section: Any) -> dict[str, Any]:
    """A section's fields, its sub-sections as dictionaries, tuples kept."""
    return {
        field.name: as_nested_dict(value) if dataclasses.is_dataclass(value) else value
        for field in dataclasses.fields(section)
        for value in [getattr(section, field.name)]
    }


def freeze(config: ml_collections.ConfigDict) -> Config:
    """The frozen, checked form of a configuration.

    Raises:
        InputError: an unknown field, a value of another type or out of its range; with the field's
            path.
    """
    return build(Config, config.to_dict(), "config")


def build(section: type[Section], values: Mapping[str, Any], path: str) -> Section:
    """A section of plain values, nested and checked; lists become tuples.

    Raises:
        InputError: an unknown field, a value of another type or out of its range.
    """
    if not isinstance(values, Mapping):
        raise InputError(path, repr(values), "a section with fields")
    hints = field_hints(section)
    for name in values:
        if name not in hints:
            raise unknown_field(f"{path}.{name}")
    arguments = {
        name: _checked(value, hints[name], f"{path}.{name}") for name, value in values.items()
    }
    try:
        return section(**arguments)
    except InputError as error:
        raise error.within(path) from error


def _checked(value: Any, hint: Any, path: str) -> Any:
    """A field's value in the type that its class says: a section built, a list as a tuple."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, path)
    return check_value(value, hint, path)


def put_value(values: dict[str, Any], names: Sequence[str], value: Any) -> None:
    """Sets the value of a nested dict that a path of names leads to."""
    for name in names[:-1]:
        values = values.setdefault(name, {})
    values[names[-1]] = value


def field_paths(section: type = Config, path: str = "config") -> list[str]:
    """Paths of all sections and fields, in the order of the classes."""
    found = []
    for name, hint in field_hints(section).items():
        found.append(f"{path}.{name}")
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            found += field_paths(hint, f"{path}.{name}")
    return found


def unknown_field(path: str) -> InputError:
    """The error for a field that there is not, with those whose paths are the most alike."""
    known = field_paths()
    name = f".{path.rpartition('.')[2]}"
    alike = [other for other in known if other.endswith(name)]
    alike += difflib.get_close_matches(path, known, 3)
    nearest = " or ".join(list(dict.fromkeys(alike))[:3])
    return InputError(path, "no such field", nearest or "one that --help lists")


class UndeclaredSectionError(AttributeError):
    """A step read a part of the configuration that it does not declare: a fault of the step."""


class View:
    """A part of a configuration: what one step declares that it reads, and nothing else.

    It stands for a `Config`, and for a section of which only some fields are declared.
    """

    def __init__(self, config: Any, names: tuple[str, ...], owner: str) -> None:
        """Restricts a configuration.

        Args:
            config: the whole.
            names: sections and single fields (`data.preprocessing`) that may be read.
            owner: who declares them, for messages.
        """
        self._config, self._names, self._owner = config, names, owner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._names:
            return getattr(self._config, name)
        inner = tuple(n.partition(".")[2] for n in self._names if n.startswith(f"{name}."))
        if inner:
            return View(getattr(self._config, name), inner, self._owner)
        raise UndeclaredSectionError(
            f"{self._owner} reads {name!r} of the configuration and declares {self._names} only"
        )


def view(config: Config, names: tuple[str, ...], owner: str) -> Config:
    """What a step may read: the seed and the parts that it declares."""
    return typing.cast(Config, View(config, ("seed", *names), owner))


def declared_values(config: Config, names: tuple[str, ...]) -> dict[str, Any]:
    """The values of the seed and of the declared parts, as plain values by their path.

    Fields that change no result (`constraints.UNRECORDED`) are left out.
    """
    values: dict[str, Any] = {}
    for name in ("seed", *names):
        value: Any = config
        for part in name.split("."):
            value = value.get(part, {}) if isinstance(value, Mapping) else getattr(value, part)
        values[name] = _recorded(value)
    return values


def _recorded(value: Any) -> Any:
    """A section's recorded fields as a dictionary, its sub-sections too; or a plain value."""
    if not dataclasses.is_dataclass(value):
        return value
    fields = (f for f in dataclasses.fields(value) if f.metadata.get("recorded", True))
    return {field.name: _recorded(getattr(value, field.name)) for field in fields}
