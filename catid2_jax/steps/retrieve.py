"""Step 5: a ranking per query by a system's retriever."""

from collections.abc import Iterator, Sequence

import numpy as np

from catid2_jax.config import Config
from catid2_jax.data.queries import read_queries
from catid2_jax.decoding.filters import FIELDS, Filter, parse_filter, read_filter
from catid2_jax.encoders.config import PRECOMPUTED
from catid2_jax.encoders.precomputed import read_embeddings
from catid2_jax.encoders.registry import make_encoder
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import write_run
from catid2_jax.files import read_npy
from catid2_jax.loading import TRAINED_READS, load_product_retriever
from catid2_jax.progress import console
from catid2_jax.retrievers.product_retriever import ProductRetriever
from catid2_jax.retrievers.retriever import Ranking
from catid2_jax.systems import ResolvedSystem
from catid2_jax.types import Query
from catid2_jax.workdir import Place


def reads(system: ResolvedSystem) -> tuple[str, ...]:
    """The sections that the step reads for a system."""
    if system.is_trained:
        return ("retrieve", *TRAINED_READS)
    return ("retrieve", "embedding") if system.needs_embeddings else ("retrieve",)


def run(config: Config, place: Place, system: ResolvedSystem) -> None:
    """Writes the TREC run of the test queries, or of those that the configuration names."""
    section = config.retrieve
    queries = read_queries(section.queries or place.workdir.queries("test"))
    general = read_filter({name: getattr(section, name) for name in FIELDS})
    own = _own_filters(queries)
    retriever = load_product_retriever(config, place, system)
    vectors = _query_vectors(config, place, queries) if _reads_vectors(config, system) else None
    ranking = retriever.rank(
        [query.text for query in queries],
        section.k,
        vectors,
        general,
        own,
        "config.retrieve",
        [repr(query.id) for query in queries],
    )
    if ranking.proven is not None:
        console.print(
            f"{int(ranking.proven.sum())} of {len(queries)} results are proven to be the best "
            f"{section.k}"
        )
    write_run(place.folder / section.output, _hits(retriever, queries, ranking), system.name)


def _own_filters(queries: Sequence[Query]) -> dict[int, Filter]:
    """Number of a query -> the filter that its line has."""
    found = {}
    for number, query in enumerate(queries):
        own = parse_filter(query.extra, f"query {query.id!r}")
        if own is not None:
            found[number] = own
    return found


def _hits(
    retriever: ProductRetriever, queries: Sequence[Query], ranking: Ranking
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    ids = retriever.catalog.ids
    for query, rows, scores in zip(
        queries, ranking.documents.tolist(), ranking.scores.tolist(), strict=True
    ):
        ranked = zip(rows, scores, strict=True)
        yield query.id, [(ids[row], score) for row, score in ranked if row >= 0]


def _reads_vectors(config: Config, system: ResolvedSystem) -> bool:
    """Whether the system's search may read vectors of the queries."""
    if not system.needs_embeddings and not system.is_trained:
        return False
    return bool(system.row.retriever != "generative" or config.t5.memory_tokens)


def _query_vectors(config: Config, place: Place, queries: Sequence[Query]) -> np.ndarray | None:
    """Vectors of the test queries, or of those that are named, float32 [Q, D]; None if unknown."""
    path, section = config.retrieve.query_vectors, config.embedding
    if not config.retrieve.queries:
        found = place.query_vectors("test")
        return read_npy(found) if found.exists() else None
    if path:
        embeddings = read_npy(place.embeddings, memory_mapped=True)
        return read_embeddings(path, len(queries), "query", embeddings.shape[1])
    if section.encoder == PRECOMPUTED:
        raise InputError(
            "config.retrieve.query_vectors", "''", "the vectors of config.retrieve.queries"
        )
    encoder = make_encoder(section, config.seed)
    if encoder.fits_catalog:
        return None
    return encoder.for_queries().encode([query.text for query in queries])
