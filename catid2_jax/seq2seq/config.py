"""What stage 2 starts and learns from: the configuration's section `seq2seq`."""

import dataclasses
from typing import Literal

from catid2_jax.errors import InputError
from catid2_jax.seq2seq.decoder import NormalizeOver
from catid2_jax.seq2seq.pairs import PairWeights


@dataclasses.dataclass(frozen=True)
class Seq2SeqObjective:
    """What is minimised: Eq. 9, and what is usual beside it.

    Attributes:
        source_dropout: share of source tokens (memory tokens, for vectors) hidden from the encoder,
            drawn anew each step: a title with words missing is much like a query.
        position_weights: weight of each of an ID's codes in the loss; empty for 1 each.
        label_smoothing: share of the target's probability that all tokens get in equal parts.
        z_loss: weight of the squared log-normalizer of each position.
        microbatches: parts into which a batch is split and worked through in turn, which takes as
            much less memory; loss and gradient are those of the whole batch.
    """

    source_dropout: float = 0.0
    position_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    microbatches: int = 1

    def __post_init__(self) -> None:
        for name in ("source_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "at least 0 and less than 1")
        if self.z_loss < 0:
            raise InputError("z_loss", self.z_loss, "at least 0")
        weights = self.position_weights
        if weights and (min(weights) < 0 or not any(weights)):
            raise InputError("position_weights", weights, "none below 0 and one above it")
        if self.microbatches < 1:
            raise InputError("microbatches", self.microbatches, "at least 1")


@dataclasses.dataclass(frozen=True)
class DevEvaluationConfig:
    """Recall on dev queries while stage 2 trains.

    Attributes:
        queries: how many dev queries each evaluation searches for, the first of them; 0 for no
            evaluation.
        beams: beams of its search.
        normalize_over: what a code competes with for probability, as in `retrieve`.
        cutoffs: k of the figures `dev/recall@k`; those above `beams` are left out.
    """

    queries: int = 0
    beams: int = 100
    normalize_over: NormalizeOver = "full"
    cutoffs: tuple[int, ...] = (5, 10, 20, 50, 100)

    def __post_init__(self) -> None:
        if self.queries < 0:
            raise InputError("queries", self.queries, "at least 0")
        if self.beams < 1:
            raise InputError("beams", self.beams, "at least 1")
        if not self.figures:
            raise InputError("cutoffs", self.cutoffs, f"some of at most beams = {self.beams}")

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures that an evaluation gives."""
        return tuple(f"dev/recall@{k}" for k in self.cutoffs if 1 <= k <= self.beams)


@dataclasses.dataclass(frozen=True)
class Seq2SeqConfig:
    """What stage 2 starts and learns from.

    Where stage 2 reads vectors (`t5.memory_tokens`), the fields on text are not used.

    Attributes:
        decoder: "t5", or the dotted path of a decoder of your own.
        pretrained: a T5 to start from, in T5X's or Hugging Face's form or a work directory, of the
            shape that `t5` says; empty for random parameters.
        id_rows: how a pretrained T5, which lacks them, gets the rows of the ID tokens: drawn with
            the mean and spread of the text's rows ("statistics"), or turned from stage 1's
            codebooks ("codebooks").
        vocabulary: the SentencePiece model that `pretrained` was trained with; empty to train one
            on the catalogue and the training queries.
        vocabulary_size: pieces of a vocabulary trained here; a small text gives fewer.
        extra_ids: ids kept free after the pieces; T5's own vocabulary has 100.
        source_tokens: cuts longer queries and titles; training works on no padding.
        title_weight: weight of a pair title -> ID in the loss, beside 1 of a pair query -> ID; 0
            for the paper's pairs alone. A product that no training query finds is learnt from
            these. Where stage 2 reads vectors, the product's embedding stands for the title.
        substitute_weight: weight of a pair of grade S in the loss, beside 1 of grade E.
        objective: the loss, see `Seq2SeqObjective`.
        model_devices: devices that share one copy of the parameters; batches go over the others.
        evaluation: Recall on dev queries during training, see `DevEvaluationConfig`.
    """

    decoder: str = "t5"
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
    evaluation: DevEvaluationConfig = DevEvaluationConfig()

    def __post_init__(self) -> None:
        if self.pretrained and not self.vocabulary:
            raise InputError(
                "vocabulary", "''", "the SentencePiece model of pretrained, since that is given"
            )
        for name in ("vocabulary_size", "source_tokens", "model_devices"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "at least 1")
        if self.extra_ids < 0:
            raise InputError("extra_ids", self.extra_ids, "at least 0")
        _ = self.pair_weights  # checks them

    @property
    def pair_weights(self) -> PairWeights:
        """Weights of the kinds of training pairs."""
        return PairWeights(self.title_weight, self.substitute_weight)
