"""What stage 2 starts and learns from: the configuration's section `seq2seq`."""

import dataclasses
from typing import Annotated, Literal

from catid2_jax.constraints import (
    LocalPath,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ShareBelowOne,
    at_least,
    at_most,
    check_fields,
    more_than,
)
from catid2_jax.errors import InputError
from catid2_jax.seq2seq.decoder import (
    AutoNormalizeOver,
    TrainedNormalizeOver,
    resolve_normalize_over,
)
from catid2_jax.seq2seq.pairs import PairWeights


@dataclasses.dataclass(frozen=True)
class Seq2SeqObjective:
    """What is minimised: Eq. 9, and what is usual beside it.

    Attributes:
        source_dropout: share of source tokens (memory tokens, for vectors) hidden from the encoder,
            drawn anew each step: a title with words missing is much like a query.
        position_weights: weight of each of an ID's codes in the loss; empty for 1 each.
        position_decay: weight of a code in the loss as a share of that of the code before it, for
            IDs whose first codes matter most; 1 for equal weights.
        label_smoothing: share of the target's probability that all tokens that compete get in
            equal parts.
        z_loss: weight of the squared log-normalizer of each position.
        r_drop: weight of the divergence between what two passes with different dropout say of each
            code (R-Drop), which doubles the work of a step; 0 for a single pass.
        microbatches: parts into which a batch is split and worked through in turn, which takes as
            much less memory; loss and gradient are those of the whole batch.
        normalize_over: what a code competes with for probability: the whole vocabulary ("full",
            Eq. 9 as it stands), or the codes of its level, and the end where IDs differ in length
            ("level", which is faster). A search over "full" needs "full".
    """

    source_dropout: ShareBelowOne = 0.0
    position_weights: tuple[NonNegativeFloat, ...] = ()
    position_decay: Annotated[float, more_than(0), at_most(1)] = 1.0
    label_smoothing: ShareBelowOne = 0.0
    z_loss: NonNegativeFloat = 0.0
    r_drop: NonNegativeFloat = 0.0
    microbatches: PositiveInt = 1
    normalize_over: TrainedNormalizeOver = "level"

    def __post_init__(self) -> None:
        check_fields(self)
        weights = self.position_weights
        if weights and not any(weights):
            raise InputError("position_weights", weights, "one above 0")
        if weights and self.position_decay < 1:
            raise InputError(
                "position_decay", f"{self.position_decay} with position_weights", "one of them"
            )

    def weights_of_positions(self, levels: int) -> tuple[float, ...]:
        """The weight of each of L codes in the loss; empty for 1 each."""
        if self.position_decay == 1:
            return self.position_weights
        return tuple(self.position_decay**level for level in range(levels))


@dataclasses.dataclass(frozen=True)
class DevEvaluationConfig:
    """Recall on dev queries while stage 2 trains.

    Attributes:
        queries: how many dev queries each evaluation searches for, the first of them; 0 for no
            evaluation.
        beams: beams of its search.
        normalize_over: what a code competes with for probability, as in `retrieve`; "auto" for
            what `objective` says.
        cutoffs: k of the figures `dev/recall@k`; those above `beams` are left out.
    """

    queries: NonNegativeInt = 0
    beams: PositiveInt = 100
    normalize_over: AutoNormalizeOver = "auto"
    cutoffs: tuple[PositiveInt, ...] = (5, 10, 20, 50, 100)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.figures:
            raise InputError("cutoffs", self.cutoffs, f"some of at most beams = {self.beams}")

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures that an evaluation gives."""
        return tuple(f"dev/recall@{k}" for k in self.cutoffs if k <= self.beams)


@dataclasses.dataclass(frozen=True)
class Seq2SeqConfig:
    """What stage 2 starts and learns from.

    Where stage 2 reads vectors (`t5.memory_tokens`), the fields on text but `word_features` are not
    used.

    Attributes:
        decoder: "t5", "bert_t5" (which it becomes where `pretrained_encoder` is given), "pawa"
            (NCI's, whose output weights depend on query and prefix), or the dotted path of a
            decoder of your own.
        pretrained: a T5 to start from, in T5X's or Hugging Face's form or a work directory, of the
            shape that `t5` says; empty for random parameters.
        continue_from: work directory of an earlier state of the catalogue, whose trained stage 2 of
            the same system goes on learning here; its vocabulary is taken along. For IDs that
            `docids.previous` has kept. Empty to start anew.
        id_rows: how a pretrained T5, which lacks them, gets the rows of the ID tokens: drawn with
            the mean and spread of the text's rows ("statistics"), or turned from stage 1's
            codebooks ("codebooks").
        pretrained_encoder: the folder of a BERT in Hugging Face's form (MiniLM, E5 and BGE are of
            it) that stands in the place of T5's encoder and is trained with the rest. It reads its
            own WordPiece tokens, and the ID tokens are the decoder's only ones. `t5` is the shape
            of the decoder; its `num_encoder_layers` is not used.
        encoder_learning_rate: the rate of the pretrained encoder as a share of that of the rest,
            which starts from random parameters; 0 keeps the encoder as it is.
        vocabulary: the SentencePiece model that `pretrained` was trained with; empty to train one
            on the catalogue and the training queries.
        vocabulary_size: pieces of a vocabulary trained here; a small text gives fewer.
        extra_ids: ids kept free after the pieces; T5's own vocabulary has 100.
        source_tokens: cuts longer queries and titles; training works on no padding.
        word_features: how many hashed features of the query's words and character n-grams stand
            beside its vector, such as 2,048, or alone where queries have no vectors; 0 for the
            vector alone. A vector hardly says which words there are. Needs `t5.memory_tokens`. A
            feature takes four bytes for each training query and product.
        title_weight: weight of a pair title -> ID in the loss, beside 1 of a pair query -> ID; 0
            for the paper's pairs alone. A product that no training query finds is learnt from
            these. Where stage 2 reads vectors, the product's embedding stands for the title, with
            the title's words beside it if `word_features` are asked for.
        pseudo_queries: how many pseudo-queries are drawn from each product's title, runs of 1 to 5
            of its words that are learnt as if somebody had searched for the product with them.
        pseudo_query_weight: weight of a pair pseudo-query -> ID in the loss.
        substitute_weight: weight of a pair of grade S in the loss, beside 1 of grade E.
        objective: the loss, see `Seq2SeqObjective`.
        model_devices: devices that share one copy of the parameters; batches go over the others.
        evaluation: Recall on dev queries during training, see `DevEvaluationConfig`.
    """

    decoder: str = "t5"
    pretrained: LocalPath = ""
    continue_from: LocalPath = ""
    id_rows: Literal["statistics", "codebooks"] = "statistics"
    pretrained_encoder: LocalPath = ""
    encoder_learning_rate: NonNegativeFloat = 0.1
    vocabulary: LocalPath = ""
    vocabulary_size: Annotated[int, at_least(4)] = 4000
    extra_ids: NonNegativeInt = 0
    source_tokens: Annotated[int, at_least(2)] = 32
    word_features: NonNegativeInt = 0
    title_weight: NonNegativeFloat = 1.0
    pseudo_queries: NonNegativeInt = 0
    pseudo_query_weight: NonNegativeFloat = 1.0
    substitute_weight: NonNegativeFloat = 1.0
    objective: Seq2SeqObjective = Seq2SeqObjective()
    model_devices: PositiveInt = 1
    evaluation: DevEvaluationConfig = DevEvaluationConfig()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.pretrained and not self.vocabulary:
            raise InputError(
                "vocabulary", "''", "the SentencePiece model of pretrained, since that is given"
            )
        if self.continue_from and self.pretrained:
            raise InputError(
                "continue_from",
                f"{self.continue_from!r} beside pretrained {self.pretrained!r}",
                "one of them at most",
            )
        self._check_encoder()
        try:
            resolve_normalize_over(self.evaluation.normalize_over, self.objective.normalize_over)
        except InputError as error:
            raise error.within("evaluation") from error

    def _check_encoder(self) -> None:
        """Raises InputError for what does not go with a pretrained encoder, or needs one."""
        if self.decoder == "pawa" and self.pretrained:
            raise InputError("decoder", f"'pawa' with pretrained {self.pretrained!r}", "'t5'")
        if not self.pretrained_encoder:
            if self.decoder == "bert_t5":
                raise InputError("pretrained_encoder", "''", "a folder, for decoder is 'bert_t5'")
            return
        for name, allowed in (
            ("decoder", ("t5", "bert_t5", "pawa")),
            ("pretrained", ("",)),
            ("vocabulary", ("",)),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    name,
                    f"{getattr(self, name)!r} with pretrained_encoder {self.pretrained_encoder!r}",
                    " or ".join(map(repr, allowed)),
                )
        if self.source_tokens < 3:
            raise InputError(
                "source_tokens", self.source_tokens, "at least 3: [CLS], a token of text and [SEP]"
            )

    @property
    def pair_weights(self) -> PairWeights:
        """Weights of the kinds of training pairs."""
        return PairWeights(self.title_weight, self.substitute_weight)
