"""Retrieval by generating document IDs: the beam search over a trained stage 2."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from catid2_jax.data.corpus import Corpus
from catid2_jax.decoding.beam_search import SearchResult, widen_until_exact
from catid2_jax.decoding.trie import Trie, build_trie
from catid2_jax.docids.table import DocidTable
from catid2_jax.errors import InputError
from catid2_jax.models.param_dtype import ParamDtype, quantize
from catid2_jax.ops.mesh import divide_rows, local_mesh
from catid2_jax.progress import Progress
from catid2_jax.retrievers.config import RetrieveConfig
from catid2_jax.retrievers.retriever import Ranking, Retriever
from catid2_jax.seq2seq.decoder import Decoder, NormalizeOver
from catid2_jax.seq2seq.search import retrieve
from catid2_jax.seq2seq.source import Source

BatchSearch: TypeAlias = Callable[[np.ndarray, int], SearchResult]
"""(rows of the queries, beams) -> their results."""


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained stage 2, ready to search.

    Attributes:
        decoder: the network.
        params: its parameters, stored as `retrieve.param_dtype` says.
        source: the form in which it reads queries.
        table: the document IDs, in the catalogue's order.
        trie: the trie of the table.
        normalize_over: what the codes compete with in the search, never "auto".
    """

    decoder: Decoder
    params: Any
    source: Source
    table: DocidTable
    trie: Trie
    normalize_over: NormalizeOver

    @functools.cached_property
    def on_local_devices(self) -> "TrainedModel":
        """The same, parameters and trie being on every device of this process."""
        mesh = local_mesh()
        if mesh.size == 1:
            return self
        placed = jax.device_put((self.params, self.trie), NamedSharding(mesh, PartitionSpec()))
        return dataclasses.replace(self, params=placed[0], trie=placed[1])


def make_model(
    decoder: Decoder,
    params: Any,
    source: Source,
    table: DocidTable,
    param_dtype: ParamDtype,
    normalize_over: NormalizeOver,
) -> TrainedModel:
    """Puts the parts together; parameters go to one device, in fewer bits if asked for."""
    params = jax.device_put(jax.device_get(params), jax.local_devices()[0])
    trie = build_trie(table.codes, table.codebook_size)
    quantized = quantize(params, param_dtype)
    return TrainedModel(decoder, quantized, source, table, trie, normalize_over)


def divided_over_devices(search: Callable[..., Any]) -> Callable[..., Any]:
    """`retrieve` or `retrieve_prefixes`, the queries divided over the devices of this process."""

    @functools.wraps(search)
    def divided(
        decoder: Decoder, params: Any, sources: Any, trie: Trie, *, mask: Any = None, **static: Any
    ) -> Any:
        of_each, of_all = (mask, None) if mask and mask[0].ndim == 2 else (None, mask)

        def on_a_device(rows: Any, whole: Any) -> Any:
            (sources, of_each), (params, trie, of_all) = rows, whole
            mask = of_all if of_each is None else of_each
            return search(decoder, params, sources, trie, mask=mask, **static)

        return divide_rows(on_a_device, (sources, of_each), (params, trie, of_all))

    return divided


_retrieve = jax.jit(
    divided_over_devices(retrieve), static_argnames=("decoder", "beams", "k", "normalize_over")
)


class GenerativeRetriever(Retriever):
    """Searches for whole IDs and says whether the k best are proven."""

    needs_embeddings = False

    def __init__(self, corpus: Corpus, model: TrainedModel, config: RetrieveConfig) -> None:
        """Takes a trained model.

        Args:
            corpus: the products, in the order of the model's table.
            model: stage 2 and its trie.
            config: beams and batch size.
        """
        self.model, self.config = model, config

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        vectors: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> Ranking:
        """Ranks by the log-probability of the IDs.

        Raises:
            InputError: k is more than the beams, or the queries have no vectors and need them.
        """
        model, config = self.model.on_local_devices, self.config
        if k > config.beams:
            raise InputError("k", k, f"1 to beams = {config.beams}")
        sources = model.source.of_queries(queries, vectors)

        def search(rows: np.ndarray, beams: int) -> SearchResult:
            return _retrieve(
                model.decoder,
                model.params,
                jnp.asarray(sources[rows]),
                model.trie,
                beams=beams,
                k=k,
                mask=node_mask(model.trie, allowed, rows),
                normalize_over=model.normalize_over,
            )

        return search_in_batches(search, len(queries), config)


def node_mask(trie: Trie, allowed: np.ndarray | None, rows: np.ndarray) -> Any:
    """The trie's mask of what some queries may find; None for everything."""
    if allowed is None:
        return None
    return trie.mask(allowed if allowed.ndim == 1 else allowed[rows])


def search_in_batches(
    search: BatchSearch, queries: int, config: RetrieveConfig, widen: bool = True
) -> Ranking:
    """The results of all queries; those that are not proven again with more beams, if asked for."""
    max_beams = config.max_beams if widen and config.max_beams else config.beams
    # Few sizes of batches, each of which is compiled; a single query is searched for by itself.
    batch_size = min(config.batch_size, 1 << (queries - 1).bit_length())
    batch_size += -batch_size % jax.local_device_count()
    show = Progress("retrieving", queries) if queries > batch_size else contextlib.nullcontext()
    with show as progress:

        def counted(rows: np.ndarray, beams: int) -> SearchResult:
            if progress and beams == config.beams:
                progress.advance(len(np.unique(rows)))
            return search(rows, beams)

        found = widen_until_exact(counted, queries, batch_size, config.beams, max_beams)
    return Ranking(np.asarray(found.documents), np.asarray(found.scores), np.asarray(found.exact))
