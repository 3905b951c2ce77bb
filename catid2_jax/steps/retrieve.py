"""Step 6: a ranking per query, by beam search constrained to the catalogue."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.config import Config, RetrieveConfig
from catid2_jax.data.catalog import read_catalog
from catid2_jax.data.queries import read_queries
from catid2_jax.decoding.beam_search import SearchResult, widen_until_exact
from catid2_jax.decoding.clusters import Clusters
from catid2_jax.decoding.filters import FIELDS, FilterIndex, parse_filter, read_filter
from catid2_jax.seq2seq.decoder import retrieve, retrieve_prefixes
from catid2_jax.decoding.trie import Trie, build_trie
from catid2_jax.models.param_dtype import quantize
from catid2_jax.docids.table import DocidTable
from catid2_jax.docids.vocabulary import CodeVocabulary, Vocabulary
from catid2_jax.encoders.encoder import encode_texts
from catid2_jax.encoders.precomputed import read_embeddings
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import write_run
from catid2_jax.models.t5.network import Transformer
from catid2_jax.progress import Progress, console
from catid2_jax.steps.embed import make_encoder
from catid2_jax.steps.train_seq2seq import (
    encode_sources,
    load_trained,
    load_vocabulary,
    read_fitting_docids,
)
from catid2_jax.steps.workdir import Workdir
from catid2_jax.types import Query

_retrieve = jax.jit(retrieve, static_argnames=("model", "first_id_token", "beams", "k", "scores"))
_retrieve_prefixes = jax.jit(
    retrieve_prefixes, static_argnames=("model", "first_id_token", "beams", "depth", "scores")
)

BatchSearch: TypeAlias = Callable[[np.ndarray, int], SearchResult]
"""(rows of the queries, beams) -> their results."""

AllowedDocuments: TypeAlias = Callable[[np.ndarray], np.ndarray | None]
"""Rows of the queries -> booleans [N] or [rows, N] of what they may find; None for everything."""


@dataclasses.dataclass(frozen=True)
class Retriever:
    """What every search of a work directory shares.

    Attributes:
        model: stage 2's network.
        params: its parameters, as `retrieve.param_dtype` says.
        vocabulary: its tokens.
        table: the document IDs, in the catalogue's order.
        trie: of the table.
    """

    model: Transformer
    params: Any
    vocabulary: CodeVocabulary
    table: DocidTable
    trie: Trie


def run(config: Config, workdir: Workdir) -> None:
    """Writes the TREC run of the test queries, or of those that the configuration names."""
    section = config.retrieve
    queries = read_queries(section.queries or workdir.data / "queries.test.jsonl")
    retriever = load_retriever(config, workdir)
    allowed = allowed_documents(section, workdir, retriever.table, queries)
    search = _expanding_search if section.expand_level else _whole_search
    search_batch = search(config, workdir, retriever, queries, allowed)

    def rankings() -> Iterator[tuple[str, list[tuple[str, float]]]]:
        with Progress("retrieving", len(queries)) as progress:

            def search(rows: np.ndarray, beams: int) -> SearchResult:
                if beams == section.beams:
                    progress.advance(len(np.unique(rows)))
                return search_batch(rows, beams)

            found = widen_until_exact(
                search,
                len(queries),
                section.batch_size,
                section.beams,
                section.max_beams or section.beams,
            )
        if not section.expand_level:
            proven = int(np.sum(found.exact))
            console.print(
                f"{proven} of {len(queries)} results are proven to be the best {section.k}"
            )
        for query, documents, scores in zip(queries, found.documents, found.scores, strict=True):
            ranked = zip(documents.tolist(), scores.tolist(), strict=True)
            yield query.id, [(retriever.table.ids[d], score) for d, score in ranked if d >= 0]

    write_run(workdir.models / section.output, rankings(), workdir.variant or "cat_id2")


def load_retriever(config: Config, workdir: Workdir) -> Retriever:
    """Loads what stage 2 left, and the IDs.

    Raises:
        InputError: the IDs are not those of the catalogue and the model.
    """
    vocabulary = load_vocabulary(config, workdir)
    table = read_fitting_docids(workdir, vocabulary)
    trie = build_trie(table.codes, vocabulary.codebook_size)
    model, params = load_trained(config, workdir, vocabulary)
    # The search is no work for several devices yet: each process has it on one of its own.
    params = jax.device_put(jax.device_get(params), jax.local_devices()[0])
    return Retriever(model, quantize(params, config.retrieve.param_dtype), vocabulary, table, trie)


def allowed_documents(
    section: RetrieveConfig, workdir: Workdir, table: DocidTable, queries: Sequence[Query]
) -> AllowedDocuments:
    """What each query may find, by the configuration's filter and its own.

    Raises:
        InputError: a filter that cannot be read, or an id or category that no product has.
    """
    general = read_filter({name: getattr(section, name) for name in FIELDS})
    own = [parse_filter(query.extra, f"query {query.id!r}") for query in queries]
    paths: list[tuple[str, ...]] = []
    if any(conditions and conditions.has_categories for conditions in (general, *own)):
        paths = [product.categories for product in read_catalog(workdir.data / "catalog.jsonl")]
    index = FilterIndex(table.ids, paths)
    for_all = index.allowed(general, "config.retrieve") if general else None

    def of_query(row: int) -> np.ndarray:
        everything = np.ones(len(table.ids), bool) if for_all is None else for_all
        conditions = own[row]
        if conditions is None:
            return everything
        return everything & index.allowed(conditions, f"query {queries[row].id!r}")

    filtered = [row for row, conditions in enumerate(own) if conditions]
    for row in filtered:
        of_query(row)  # what is wrong is said before the search, not on the way

    def allowed(rows: np.ndarray) -> np.ndarray | None:
        return np.stack([of_query(row) for row in rows.tolist()]) if filtered else for_all

    return allowed


def _whole_search(
    config: Config,
    workdir: Workdir,
    retriever: Retriever,
    queries: Sequence[Query],
    allowed: AllowedDocuments,
) -> BatchSearch:
    """Search for whole IDs."""
    sources = _sources(config, workdir, retriever, queries)

    def search(rows: np.ndarray, beams: int) -> SearchResult:
        return _retrieve(
            **_arguments(config, retriever, sources[rows], allowed(rows)),
            beams=beams,
            k=config.retrieve.k,
        )

    return search


def _expanding_search(
    config: Config,
    workdir: Workdir,
    retriever: Retriever,
    queries: Sequence[Query],
    allowed: AllowedDocuments,
) -> BatchSearch:
    """Search for prefixes, and what is beneath them ranked by dense scores (section 4.7)."""
    section = config.retrieve
    if section.expand_level > retriever.trie.levels:
        raise InputError(
            f"config.retrieve.expand_level is {section.expand_level}: expected at most "
            f"{retriever.trie.levels}, the length of an ID"
        )
    sources = _sources(config, workdir, retriever, queries)
    embeddings = np.load(workdir.embeddings, allow_pickle=False, mmap_mode="r")
    vectors = _query_vectors(config, workdir, queries)
    clusters = Clusters(retriever.trie, section.expand_level, embeddings)

    def search(rows: np.ndarray, beams: int) -> SearchResult:
        may_be_found = allowed(rows)
        prefixes = _retrieve_prefixes(
            **_arguments(config, retriever, sources[rows], may_be_found),
            beams=beams,
            depth=section.expand_level,
        )
        documents, scores = clusters.rank(prefixes, vectors[rows], section.k, may_be_found)
        # The bound is on the model's scores, and these are others: nothing is proven.
        return SearchResult(documents, scores, prefixes.bound, np.zeros(len(rows), bool))

    return search


def _sources(
    config: Config, workdir: Workdir, retriever: Retriever, queries: Sequence[Query]
) -> np.ndarray:
    """What the network reads of the queries: tokens int [Q, S], or vectors float [Q, D]."""
    if isinstance(retriever.vocabulary, Vocabulary):
        texts = [query.text for query in queries]
        return encode_sources(config, retriever.vocabulary, texts, "queries")
    return _query_vectors(config, workdir, queries)


def _query_vectors(config: Config, workdir: Workdir, queries: Sequence[Query]) -> np.ndarray:
    """The vectors of the test queries, or of those that are named; float32 [Q, D]."""
    path, section = config.retrieve.query_vectors, config.embedding
    if not config.retrieve.queries:
        return np.load(workdir.query_vectors("test"), allow_pickle=False)
    if not path:
        encoder = make_encoder(section).for_queries()
        return encode_texts([query.text for query in queries], encoder, section.batch_tokens)[0]
    embeddings = np.load(workdir.embeddings, allow_pickle=False, mmap_mode="r")
    return read_embeddings(path, len(queries), "query", embeddings.shape[1])


def _arguments(
    config: Config, retriever: Retriever, sources: np.ndarray, allowed: np.ndarray | None
) -> dict[str, Any]:
    """What both searches give to the model."""
    queries = jnp.asarray(sources)
    return {
        "model": retriever.model,
        "params": retriever.params,
        "encoder_tokens": queries,
        "encoder_mask": retriever.model.source_mask(queries),
        "trie": retriever.trie,
        "first_id_token": retriever.vocabulary.first_id_token,
        "mask": None if allowed is None else retriever.trie.mask(allowed),
        "scores": config.retrieve.normalize_over,
    }
