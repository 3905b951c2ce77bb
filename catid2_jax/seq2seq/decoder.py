"""The network of stage 2, as the trainer and the search see it, and T5 as that.

One more decoder head is one module and one row of `DECODERS`, or a dotted path of your own.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.decoding.beam_search import StepFunction
from catid2_jax.docids.vocabulary import PAD, CodeVocabulary
from catid2_jax.errors import InputError
from catid2_jax.models.bert import BertConfig
from catid2_jax.models.param_dtype import dequantize
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Cache, Transformer
from catid2_jax.models.t5.network import Source as SourceArray
from catid2_jax.plugins import resolve

_LOGITS_AT_ONCE = 2**23  # 32 MiB, whatever the batch

NormalizeOver: TypeAlias = Literal["full", "level", "valid"]
"""What the codes of a prefix's next level compete with for probability.

- "full": the whole vocabulary, which is what the training loss means.
- "level": the K tokens of the level; the other logits are not even computed.
- "valid": the codes that continue the prefix to a document of the trie.
"""

TrainedNormalizeOver: TypeAlias = Literal["full", "level"]
"""What the codes compete with in the training loss."""

AutoNormalizeOver: TypeAlias = Literal["auto", "full", "level", "valid"]
"""A `NormalizeOver`, or "auto" for what the network was trained with."""


class Decoder(Protocol):
    """A network from a source to the codes of an ID; immutable and hashable, its parameters apart.

    A decoder of your own is made by the arguments of `T5Decoder`.
    """

    def initialize(self, key: jax.Array, source: jax.ShapeDtypeStruct) -> Any:
        """Random parameters for sources of this form (without the batch)."""
        ...

    def logits(
        self,
        params: Any,
        sources: SourceArray,
        targets: Int[Array, "B L"],
        key: jax.Array | None = None,
        source_dropout: float = 0.0,
        packed_tokens: int = 0,
        normalize_over: TrainedNormalizeOver = "full",
        ends: bool = False,
    ) -> Float[Array, "B L _"]:
        """Teacher-forced logits of what each target token competes with, float32.

        Args:
            params: the parameters.
            sources: what the network reads.
            targets: ID tokens, 0 after the end of a shorter ID.
            key: key of everything random in training; None for none of it.
            source_dropout: share of source tokens hidden, drawn with `key`.
            packed_tokens: most tokens without padding that a device has of the batch; 0 to work on
                padding too. A decoder may ignore it.
            normalize_over: "full" for the logits of all tokens, [B, L, V]; "level" for those of the
                codes of each position's level, [B, L, K].
            ends: whether "level" has as column K the logit of the ID's end, -inf where none ends.
        """
        ...

    def start(
        self, params: Any, sources: SourceArray, normalize_over: NormalizeOver, ends: bool = False
    ) -> tuple[StepFunction, Any]:
        """The search's step function for these queries, and its cache before level 0.

        Args:
            params: the parameters, maybe stored in fewer bits by `param_dtype.quantize`.
            sources: the queries.
            normalize_over: see `NormalizeOver`; "valid" is "level" here, the search does the rest.
            ends: whether the step also gives the log-probability that the ID ends, as column K.
        """
        ...

    @property
    def first_id_token(self) -> int:
        """Token of level 0's code 0."""
        ...

    @property
    def codebook_size(self) -> int:
        """K."""
        ...


@dataclasses.dataclass(frozen=True)
class T5Decoder:
    """T5: code c of level l is the token `first_id_token + l K + c`, decoding starts with token 0.

    Where IDs differ in length, the end of an ID is token 0, which no code has.

    Attributes:
        config: shape of the network.
        vocabulary_size: rows of its embedding.
        first_id_token: token of level 0's code 0.
        levels: L.
        codebook_size: K.

    Raises:
        InputError: the vocabulary ends before the last ID token.
    """

    config: T5Config
    vocabulary_size: int
    first_id_token: int
    levels: int
    codebook_size: int

    def __post_init__(self) -> None:
        needed = self.first_id_token + self.levels * self.codebook_size
        if needed > self.vocabulary_size:
            raise InputError(
                "vocabulary",
                f"{self.vocabulary_size} rows",
                f"at least {needed} for {self.levels} levels of {self.codebook_size} codes from "
                f"token {self.first_id_token} on",
            )

    @property
    def network(self) -> Transformer:
        """The Flax module."""
        return Transformer(self.config, self.vocabulary_size)

    def initialize(self, key: jax.Array, source: jax.ShapeDtypeStruct) -> Any:
        """Random parameters, float32."""
        example = jnp.zeros((1, *source.shape), source.dtype)
        mask, token = self.network.source_mask(example), jnp.zeros((1, 1), jnp.int32)
        return self.network.init(key, example, mask, token)["params"]

    def logits(
        self,
        params: Any,
        sources: SourceArray,
        targets: Int[Array, "B L"],
        key: jax.Array | None = None,
        source_dropout: float = 0.0,
        packed_tokens: int = 0,
        normalize_over: TrainedNormalizeOver = "full",
        ends: bool = False,
    ) -> Float[Array, "B L _"]:
        """See `Decoder.logits`."""
        variables, mask, rngs = {"params": params}, self.network.source_mask(sources), {}
        if key is not None:
            mask_key, dropout_key = jax.random.split(key)
            mask, rngs = hide_tokens(mask, source_dropout, mask_key), {"dropout": dropout_key}
        inputs = jnp.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)
        decoded: Any = self.network.apply(
            variables,
            sources,
            mask,
            inputs,
            deterministic=key is None,
            packed_tokens=packed_tokens,
            rngs=rngs,
            method="decode",
        )
        if normalize_over == "full":
            logits: Any = self.network.apply(variables, decoded, method="logits")
            return logits
        levels = range(targets.shape[1])
        by_level = [self._level_logits(variables, decoded[:, t], t, ends) for t in levels]
        return jnp.stack(by_level, axis=1)

    def start(
        self, params: Any, sources: SourceArray, normalize_over: NormalizeOver, ends: bool = False
    ) -> tuple[StepFunction, Cache]:
        """See `Decoder.start`."""
        network, K = self.network, self.codebook_size
        variables = {"params": dequantize(params)}
        batch_size = sources.shape[0]
        mask = network.source_mask(sources)
        encoded = network.apply(variables, sources, mask, method="encode")
        cross = network.apply(variables, encoded, method="start_decoding")

        def step(
            level: int, codes: Int[Array, "B M"] | None, cache: Cache
        ) -> tuple[Float[Array, "B M _"], Cache]:
            start = self.first_id_token + level * K
            tokens = jnp.zeros((batch_size, 1), jnp.int32) if codes is None else start - K + codes
            decoded, cache = network.apply(  # type: ignore[assignment]
                variables, tokens, cross, mask, cache, method="decode_step"
            )
            logits = self._level_logits(variables, decoded, level, ends)
            if normalize_over != "full":
                return jax.nn.log_softmax(logits, axis=-1), cache
            return logits - _log_normalizers(network, variables, decoded), cache

        return step, network.empty_cache(batch_size)

    def _level_logits(
        self, variables: Any, decoded: Float[Array, "*batch E"], level: int, ends: bool
    ) -> Float[Array, "*batch _"]:
        """Logits of the K codes of a level, with `ends` then that of the ID's end."""
        start = self.first_id_token + level * self.codebook_size
        columns = slice(start, start + self.codebook_size)
        logits: Any = self.network.apply(variables, decoded, columns, method="logits")
        if not ends:
            return logits
        end: Any = jnp.full_like(logits[..., :1], -jnp.inf)  # no ID ends before its first code
        if level:
            end = self.network.apply(variables, decoded, slice(PAD, PAD + 1), method="logits")
        return jnp.concatenate([logits, end], axis=-1)


DECODERS: Mapping[str, str] = {
    "t5": "catid2_jax.seq2seq.decoder:T5Decoder",
    "bert_t5": "catid2_jax.seq2seq.bert_decoder:BertT5Decoder",
    "pawa": "catid2_jax.seq2seq.pawa_decoder:PawaDecoder",
}


def make_decoder(
    name: str, config: T5Config, vocabulary: CodeVocabulary, encoder: BertConfig | None = None
) -> Decoder:
    """The decoder of a short name or a dotted path, for a vocabulary.

    Args:
        name: see `DECODERS`.
        config: shape of the network.
        vocabulary: the ID tokens.
        encoder: shape of the pretrained encoder, which "bert_t5" has and "pawa" may have.

    Raises:
        InputError: there is none of that name, or the vocabulary has no room for its ID tokens.
    """
    decoder = resolve(name, DECODERS, "decoder", ("initialize", "logits", "start"))
    return decoder(
        config=config,
        vocabulary_size=vocabulary.rows,
        first_id_token=vocabulary.first_id_token,
        levels=vocabulary.levels,
        codebook_size=vocabulary.codebook_size,
        **({} if encoder is None else {"encoder": encoder}),
    )


def level_columns(decoder: Decoder, tokens: Int[Array, "B L"]) -> Int[Array, "B L"]:
    """The columns of ID tokens in "level" logits: their codes, K for the end of a shorter ID."""
    K = decoder.codebook_size
    codes = tokens - decoder.first_id_token - K * jnp.arange(tokens.shape[1])[None]
    return jnp.where(tokens == PAD, K, codes)


def resolve_normalize_over(
    asked: AutoNormalizeOver, trained: TrainedNormalizeOver
) -> NormalizeOver:
    """What the search of a network normalises over.

    Args:
        asked: what the search's configuration says.
        trained: what the objective of the network's training says.

    Raises:
        InputError: "full" of a network that was trained over "level", whose logits of other tokens
            have learnt nothing.
    """
    if asked == "auto":
        return trained
    if asked == "full" and trained == "level":
        raise InputError(
            "normalize_over",
            "'full' with objective.normalize_over = 'level'",
            "'auto', 'level' or 'valid': the network learns no logits of other tokens",
        )
    return asked


def hide_tokens(mask: Bool[Array, "B S"], share: float, key: jax.Array) -> Bool[Array, "B S"]:
    """Mask of the tokens that the encoder sees: those of `mask`, less a random share.

    The first token always stays, so that no source is empty.
    """
    shown = jax.random.uniform(key, mask.shape) >= share
    return mask & shown.at[:, 0].set(True)


def _log_normalizers(
    network: Transformer, variables: Any, decoded: Float[Array, "B M E"]
) -> Float[Array, "B M 1"]:
    """Log-sum-exp of the logits of the whole vocabulary, a few queries at a time."""

    def normalizers(decoded: Float[Array, "*B M E"]) -> Float[Array, "*B M 1"]:
        logits: Any = network.apply(variables, decoded, method="logits")
        return jax.nn.logsumexp(logits, axis=-1, keepdims=True)

    if not isinstance(decoded.shape[0], int):  # exported for any batch
        return normalizers(decoded)
    together = max(1, _LOGITS_AT_ONCE // (decoded.shape[1] * network.vocabulary_size))
    return jax.lax.map(normalizers, decoded, batch_size=together)
