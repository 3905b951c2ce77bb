"""Step 5: a ranking per query by a system's retriever."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from catid2_jax.config import Config, reads_vectors
from catid2_jax.data.corpus import Catalog
from catid2_jax.data.queries import read_queries
from catid2_jax.decoding.filters import (
    FIELDS,
    Filter,
    FilterIndex,
    parse_filter,
    read_filter,
    without_unknown_ids,
)
from catid2_jax.encoders.config import PRECOMPUTED
from catid2_jax.encoders.precomputed import read_embeddings
from catid2_jax.encoders.registry import make_encoder
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import write_run
from catid2_jax.files import read_npy, write_json
from catid2_jax.loading import TRAINED_READS, load_product_retriever
from catid2_jax.processes import divided, is_first
from catid2_jax.progress import console
from catid2_jax.resolution import ResolvedSystem, with_parts
from catid2_jax.retrievers.config import RetrieveConfig
from catid2_jax.retrievers.product_retriever import ProductRetriever
from catid2_jax.retrievers.retriever import Ranking
from catid2_jax.types import Query
from catid2_jax.workdir import Place


def reads(system: ResolvedSystem) -> tuple[str, ...]:
    """The parts of the configuration that the step reads for a system."""
    names = ["retrieve", *(["embedding"] if system.parts else [])]
    for found in with_parts([system]):
        if found.is_trained or found.has_towers:
            names += TRAINED_READS
        elif found.needs_embeddings:
            names.append("embedding")
        names.append(found.option_names[1])
    return tuple(dict.fromkeys(names))


def run(config: Config, place: Place, system: ResolvedSystem) -> None:
    """Writes the TREC run of the test queries, or of those that the configuration names."""
    section = config.retrieve
    queries = read_queries(section.queries or place.workdir.queries("test"))
    retriever = load_product_retriever(config, place, system)
    general, own, ignored = read_filters(section, queries, retriever.catalog)
    if ignored:
        console.print(f"{ignored:,} ids in filters are of no product that is kept: ignored")
    vectors = _query_vectors(config, place, queries) if _reads_vectors(config, system) else None
    ranking = _rank(retriever, queries, section.k, vectors, general, own)
    if is_first() and not section.queries:  # those of another configuration
        place.figures("retrieve").unlink(missing_ok=True)
    if ranking.proven is not None:
        proven = [query.id for query, holds in zip(queries, ranking.proven, strict=True) if holds]
        console.print(
            f"{len(proven)} of {len(queries)} results are proven to be the best {section.k}"
        )
        if not section.queries:  # of the test, which alone is measured
            write_json(place.figures("retrieve"), {"queries": len(queries), "proven": proven})
    write_run(place.folder / section.output, _hits(retriever, queries, ranking), system.name)


def _rank(
    retriever: ProductRetriever,
    queries: Sequence[Query],
    k: int,
    vectors: np.ndarray | None,
    general: Filter | None,
    own: Mapping[int, Filter],
) -> Ranking:
    """The ranking of all queries, each process having searched for its part of them."""

    def search(rows: np.ndarray) -> Sequence[np.ndarray]:
        chosen = [queries[row] for row in rows]
        found = retriever.rank(
            [query.text for query in chosen],
            k,
            None if vectors is None else vectors[rows],
            general,
            {place: own[row] for place, row in enumerate(rows.tolist()) if row in own},
            "config.retrieve",
            [repr(query.id) for query in chosen],
        )
        missing = ((0, 0), (0, k - found.documents.shape[1]))
        ranked = (
            np.pad(found.documents, missing, constant_values=-1),
            np.pad(found.scores.astype(float), missing, constant_values=-np.inf),
        )
        return ranked if found.proven is None else (*ranked, found.proven)

    return Ranking(*divided(search, len(queries)))


def read_filters(
    section: RetrieveConfig, queries: Sequence[Query], catalog: Catalog
) -> tuple[Filter | None, dict[int, Filter], int]:
    """Reads the filters of all queries and of single ones.

    Ids of no product in the catalogue are left out: filters are often written for the whole shop,
    of which preprocessing drops products.

    Returns:
        The filter of all queries, number of a query -> the filter that its line has, and the number
        of ids left out.

    Raises:
        InputError: a file that cannot be read, a filter that is none, an unknown category, or a
            file of allowed ids none of which is a product's.
    """
    general = read_filter({name: getattr(section, name) for name in FIELDS})
    own: dict[int, Filter] = {}
    left_out = 0
    for number, query in enumerate(queries):
        given = parse_filter(query.extra, f"query {query.id!r}")
        if given is not None:
            own[number], unknown = without_unknown_ids(given, catalog.rows)
            left_out += unknown
    if general is not None:
        kept, unknown = without_unknown_ids(general, catalog.rows)
        if general.allow_ids and not kept.allow_ids:
            FilterIndex(catalog.ids).allowed(general, "config.retrieve")
        general, left_out = kept, left_out + unknown
    where = {f"query {queries[number].id!r}": given for number, given in own.items()}
    where |= {"config.retrieve": general} if general else {}
    of_categories = {name: given for name, given in where.items() if given.has_categories}
    if of_categories:
        index = FilterIndex(catalog.ids, catalog.paths)
        for name, given in of_categories.items():
            index.allowed(given, name)
    return general, own, left_out


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
    if system.parts:
        return any(_reads_vectors(part.config, part) for part in system.parts)
    if not system.needs_embeddings and not system.is_trained:
        return False
    reads_text = system.row.retriever == "generative" or system.has_towers
    return bool(not reads_text or reads_vectors(config))


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
