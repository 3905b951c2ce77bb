"""Retrieval with T5: from queries to documents."""

from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.decoding.beam_search import (
    Prefixes,
    SearchResult,
    StepFunction,
    beam_search,
    search_prefixes,
)
from catid2_jax.decoding.trie import NodeMask, Trie
from catid2_jax.models.param_dtype import dequantize
from catid2_jax.errors import InputError
from catid2_jax.models.t5.network import Cache, Source, Transformer, empty_cache

_LOGITS_AT_ONCE = 2**23  # 32 MiB, whatever the batch

NormalizeOver: TypeAlias = Literal["full", "level", "valid"]
"""What the codes of a prefix's next level compete with for probability.

- "full": the whole vocabulary, which is what the training loss means.
- "level": the K tokens of the level; the other logits are not even computed.
- "valid": the codes that continue the prefix to a document of the trie.
"""


def retrieve(
    model: Transformer,
    params: Any,
    encoder_tokens: Source,
    encoder_mask: Bool[Array, "B S"],
    trie: Trie,
    first_id_token: int,
    beams: int,
    k: int,
    mask: NodeMask | None = None,
    normalize_over: NormalizeOver = "full",
) -> SearchResult:
    """Generates document IDs for queries, best first.

    A document's score is the sum of log p(code | query, codes before). Code c of level l is token
    `first_id_token + l K + c`; the decoder starts with token 0. Pure: under `jax.jit`, `model`,
    `first_id_token`, `beams`, `k` and `scores` are static.

    Args:
        model: the network.
        params: its parameters, maybe from `weights.quantize`.
        encoder_tokens: the queries.
        encoder_mask: of `Transformer.source_mask`.
        trie: the documents.
        first_id_token: token of code 0 of level 0.
        beams: see `beam_search`.
        k: results per query.
        mask: see `beam_search`.
        normalize_over: what p is normalised over; see `NormalizeOver`.

    Raises:
        InputError: the vocabulary ends before the last ID token, `beams` is below 1, or `k` is not
            in 1..beams.
    """
    step, cache = _decoder(
        model, params, encoder_tokens, encoder_mask, trie, first_id_token, normalize_over
    )
    batch_size = encoder_tokens.shape[0]
    return beam_search(step, cache, trie, batch_size, beams, k, mask, normalize_over == "valid")


def retrieve_prefixes(
    model: Transformer,
    params: Any,
    encoder_tokens: Source,
    encoder_mask: Bool[Array, "B S"],
    trie: Trie,
    first_id_token: int,
    beams: int,
    depth: int,
    mask: NodeMask | None = None,
    normalize_over: NormalizeOver = "full",
) -> Prefixes:
    """Generates the first `depth` codes of document IDs, for `clusters.Clusters`.

    Arguments and errors are those of `retrieve`; `depth`, which is static, is not in 1..L.
    """
    step, cache = _decoder(
        model, params, encoder_tokens, encoder_mask, trie, first_id_token, normalize_over
    )
    batch_size = encoder_tokens.shape[0]
    return search_prefixes(step, cache, trie, batch_size, beams, depth, mask, normalize_over == "valid")


def _decoder(
    model: Transformer,
    params: Any,
    encoder_tokens: Source,
    encoder_mask: Bool[Array, "B S"],
    trie: Trie,
    first_id_token: int,
    normalize_over: NormalizeOver,
) -> tuple[StepFunction, Cache]:
    """The step of the search for these queries, and its cache before level 0."""
    K = trie.codebook_size
    needed = first_id_token + trie.levels * K
    if needed > model.vocabulary_size:
        raise InputError(
            f"the vocabulary has {model.vocabulary_size} rows, expected at least {needed} "
            f"for {trie.levels} levels of {K} codes from token {first_id_token} on"
        )
    variables = {"params": dequantize(params)}
    batch_size = encoder_tokens.shape[0]
    encoded = model.apply(variables, encoder_tokens, encoder_mask, method="encode")
    cross = model.apply(variables, encoded, method="start_decoding")

    def step(
        level: int, codes: Int[Array, "B M"] | None, cache: Cache
    ) -> tuple[Float[Array, "B M K"], Cache]:
        start = first_id_token + level * K
        tokens = jnp.zeros((batch_size, 1), jnp.int32) if codes is None else start - K + codes
        columns = slice(start, start + K)
        decoded, cache = model.apply(  # type: ignore[assignment]
            variables, tokens, cross, encoder_mask, cache, method="decode_step"
        )
        logits: Any = model.apply(variables, decoded, columns, method="logits")
        if normalize_over != "full":
            return jax.nn.log_softmax(logits, axis=-1), cache
        return logits - _log_normalizers(model, variables, decoded), cache

    return step, empty_cache(model.config, batch_size)


def _log_normalizers(
    model: Transformer, variables: Any, decoded: Float[Array, "B M E"]
) -> Float[Array, "B M 1"]:
    """Log-sum-exp of the logits of the whole vocabulary, a few queries at a time."""

    def normalizers(decoded: Float[Array, "*B M E"]) -> Float[Array, "*B M 1"]:
        logits: Any = model.apply(variables, decoded, method="logits")
        return jax.nn.logsumexp(logits, axis=-1, keepdims=True)

    if not isinstance(decoded.shape[0], int):  # exported for any batch
        return normalizers(decoded)
    together = max(1, _LOGITS_AT_ONCE // (decoded.shape[1] * model.vocabulary_size))
    return jax.lax.map(normalizers, decoded, batch_size=together)
