"""From queries to documents: a decoder, a trie and the beam search together."""

from typing import Any

from catid2_jax.decoding.beam_search import Prefixes, SearchResult, beam_search, search_prefixes
from catid2_jax.decoding.trie import NodeMask, Trie
from catid2_jax.models.t5.network import Source
from catid2_jax.seq2seq.decoder import Decoder, NormalizeOver


def retrieve(
    decoder: Decoder,
    params: Any,
    sources: Source,
    trie: Trie,
    beams: int,
    k: int,
    mask: NodeMask | None = None,
    normalize_over: NormalizeOver = "full",
) -> SearchResult:
    """Generates document IDs for queries, best first.

    A document's score is the sum of log p(code | query, codes before). Pure: under `jax.jit`,
    `decoder`, `beams`, `k` and `normalize_over` are static.

    Args:
        decoder: the network.
        params: its parameters, maybe made smaller by `param_dtype.quantize`.
        sources: the queries, as the network reads them, [B, ...].
        trie: the documents.
        beams: prefixes kept at each level, at most.
        k: results per query.
        mask: documents to choose from, by `Trie.mask`; None for all.
        normalize_over: what p is normalised over; see `NormalizeOver`.

    Raises:
        InputError: `beams` is below 1, or `k` is not in 1..beams.
    """
    step, cache = decoder.start(params, sources, normalize_over, trie.has_ends)
    return beam_search(
        step, cache, trie, sources.shape[0], beams, k, mask, normalize_over == "valid"
    )


def retrieve_prefixes(
    decoder: Decoder,
    params: Any,
    sources: Source,
    trie: Trie,
    beams: int,
    depth: int,
    mask: NodeMask | None = None,
    normalize_over: NormalizeOver = "full",
) -> Prefixes:
    """Generates the first `depth` codes of document IDs, for `clusters.Clusters`.

    Arguments and errors are those of `retrieve`; `depth`, which is static, must be in 1..L.
    """
    step, cache = decoder.start(params, sources, normalize_over, trie.has_ends)
    return search_prefixes(
        step, cache, trie, sources.shape[0], beams, depth, mask, normalize_over == "valid"
    )
