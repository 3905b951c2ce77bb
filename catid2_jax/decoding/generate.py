"""Retrieval with T5: from the tokens of queries to documents."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.decoding.beam_search import SearchResult, beam_search
from catid2_jax.decoding.trie import Trie
from catid2_jax.errors import InputError
from catid2_jax.models.t5.network import Cache, Transformer, empty_cache


def retrieve(
    model: Transformer,
    params: Any,
    encoder_tokens: Int[Array, "B S"],
    encoder_mask: Bool[Array, "B S"],
    trie: Trie,
    first_id_token: int,
    beams: int,
) -> SearchResult:
    """Generates document IDs for queries, best first.

    A document's score is log p(ID | query), the log-softmax being over the whole vocabulary: what
    the training loss means. Code c of level l is token `first_id_token + l K + c`; the decoder
    starts with token 0. Pure: under `jax.jit`, `model`, `first_id_token` and `beams` are static.

    Args:
        model: the network.
        params: its parameters.
        encoder_tokens: the queries.
        encoder_mask: False on padding.
        trie: the documents.
        first_id_token: token of code 0 of level 0.
        beams: see `beam_search`.

    Raises:
        InputError: the vocabulary ends before the last ID token, or `beams` is below 1.
    """
    K = trie.codes_per_level
    needed = first_id_token + trie.levels * K
    if needed > model.vocabulary_size:
        raise InputError(
            f"the vocabulary has {model.vocabulary_size} rows, expected at least {needed} "
            f"for {trie.levels} levels of {K} codes from token {first_id_token} on"
        )
    variables = {"params": params}
    batch_size = encoder_tokens.shape[0]
    encoded = model.apply(variables, encoder_tokens, encoder_mask, method="encode")
    cross = model.apply(variables, encoded, method="start_decoding")

    def step(
        level: int, codes: Int[Array, "B M"] | None, cache: Cache
    ) -> tuple[Float[Array, "B M K"], Cache]:
        start = first_id_token + level * K
        tokens = jnp.zeros((batch_size, 1), jnp.int32) if codes is None else start - K + codes
        logits, cache = model.apply(  # type: ignore[assignment]
            variables, tokens, cross, encoder_mask, cache, method="decode_step"
        )
        # Of the log-softmax, only the level's columns are made.
        normalizer = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        return logits[..., start : start + K] - normalizer, cache

    return beam_search(step, empty_cache(model.config, batch_size), trie, batch_size, beams)
