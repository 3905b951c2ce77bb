"""A retriever whose hits are products: what `catid2_jax.load` gives."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from catid2_jax.data.corpus import Catalog
from catid2_jax.decoding.filters import FIELDS, Filter, FilterIndex, parse_filter
from catid2_jax.docids.table import DocidTable, format_docid
from catid2_jax.errors import InputError
from catid2_jax.retrievers.retriever import Ranking, Retriever, check_ranking
from catid2_jax.types import Product

_MASK_ENTRIES = 2**28  # of a filter per query, held at once


@dataclasses.dataclass(frozen=True)
class Hit:
    """A product that was found.

    Attributes:
        product: the product.
        score: the retriever's score; for generated IDs a log-probability.
        docid: text of its document ID, `<a_65><b_225>`; empty for a retriever without IDs.
    """

    product: Product
    score: float
    docid: str


@dataclasses.dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """What a query found, best first.

    Attributes:
        hits: the products.
        proven: whether no other product can have a higher score than one of them; None if the
            retriever cannot tell.
    """

    hits: tuple[Hit, ...]
    proven: bool | None

    @overload
    def __getitem__(self, place: int) -> Hit: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Hit, ...]: ...

    def __getitem__(self, place: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[place]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)


class ProductRetriever:
    """Searches a catalogue with any `Retriever`, with filters by id and by category.

    Attributes:
        name: the system's name.
        catalog: the products.
        retriever: what ranks them.
        table: their document IDs; None for a retriever without IDs.
    """

    def __init__(
        self,
        name: str,
        catalog: Catalog,
        retriever: Retriever,
        table: DocidTable | None = None,
    ) -> None:
        self.name, self.catalog, self.retriever, self.table = name, catalog, retriever, table

    @overload
    def search(self, queries: str, k: int = ..., **options: Any) -> Hits: ...

    @overload
    def search(self, queries: Sequence[str], k: int = ..., **options: Any) -> list[Hits]: ...

    def search(
        self,
        queries: str | Sequence[str],
        k: int = 10,
        *,
        vectors: np.ndarray | None = None,
        **filters: Sequence[Any],
    ) -> Hits | list[Hits]:
        """Finds products.

        Args:
            queries: a query, or several.
            k: products per query.
            vectors: float [D] or [Q, D], made by the encoder of the products' embeddings, for a
                retriever that reads vectors.
            **filters: `allow_ids`, `deny_ids`, `allow_categories` and `deny_categories`: lists of
                product ids, or of category paths as lists of names or text ("Garden > Tools").

        Returns:
            The hits of the query, or of each query. There are k of them where k products may be
            found, unless the retriever finds fewer.

        Raises:
            InputError: a query that is no text or blank, k below 1, a filter of another name, or
                one of an id or a category that no product has.
        """
        if not isinstance(queries, str | Sequence | np.ndarray) or isinstance(queries, bytes):
            raise InputError("queries", f"{queries!r:.60}", "a text or several")
        texts = [queries] if isinstance(queries, str) else list(queries)
        unknown = sorted(set(filters) - set(FIELDS))
        if unknown:
            raise InputError(
                "search", f"the argument {unknown[0]!r}", f"some of {', '.join(FIELDS)}"
            )
        given = {name: _plain(value) for name, value in filters.items() if value is not None}
        general = parse_filter(given, "filter")
        if vectors is not None:
            vectors = np.atleast_2d(vectors)
        ranking = self.rank(texts, k, vectors, general)
        found = [self._hits(ranking, query) for query in range(len(texts))]
        return found[0] if isinstance(queries, str) else found

    def rank(
        self,
        queries: Sequence[str],
        k: int,
        vectors: np.ndarray | None = None,
        general: Filter | None = None,
        own: Mapping[int, Filter] | None = None,
        where: str = "filter",
        names: Sequence[str] | None = None,
    ) -> Ranking:
        """The rows of the products found, and their scores.

        Args:
            queries: Q texts.
            k: products per query.
            vectors: float [Q, D], or None.
            general: what all queries may find; None for everything.
            own: number of a query -> what it may find beside.
            where: names the general filter in messages.
            names: names the queries in messages; None for their numbers.

        Raises:
            InputError: as `search`.
        """
        names = [f"query {name}" for name in names or range(len(queries))]
        _check_queries(queries, k, names)
        k = int(k)
        for_all = None if general is None else self.index.allowed(general, where)
        if not own:
            return self._rank(queries, k, vectors, for_all)
        for query, conditions in own.items():  # what is wrong is said before the search
            self.index.allowed(conditions, names[query])
        together = max(1, _MASK_ENTRIES // len(self.catalog))
        parts = []
        for start in range(0, len(queries), together):
            part = range(start, min(start + together, len(queries)))
            allowed = np.ones((len(part), len(self.catalog)), bool)
            if for_all is not None:
                allowed &= for_all
            for row, query in enumerate(part):
                if query in own:
                    allowed[row] &= self.index.allowed(own[query], names[query])
            of_part = None if vectors is None else vectors[part.start : part.stop]
            parts.append(self._rank(queries[part.start : part.stop], k, of_part, allowed))
        return _joined(parts)

    @functools.cached_property
    def index(self) -> FilterIndex:
        """The products by id and by category."""
        return FilterIndex(self.catalog.ids, self.catalog.paths)

    def _rank(
        self,
        queries: Sequence[str],
        k: int,
        vectors: np.ndarray | None,
        allowed: np.ndarray | None,
    ) -> Ranking:
        found = self.retriever.search(queries, k, vectors=vectors, allowed=allowed)
        ranking = check_ranking(found, len(queries), k, len(self.catalog), self.name)
        if allowed is not None:
            mask = np.broadcast_to(allowed, (len(queries), len(self.catalog)))
            _check_allowed(ranking.documents, mask, self.name)
        return ranking

    def _hits(self, ranking: Ranking, query: int) -> Hits:
        rows, scores = ranking.documents[query].tolist(), ranking.scores[query].tolist()
        hits = (
            Hit(self.catalog[row], score, self._docid(row))
            for row, score in zip(rows, scores, strict=True)
            if row >= 0
        )
        proven = None if ranking.proven is None else bool(ranking.proven[query])
        return Hits(tuple(hits), proven)

    def _docid(self, row: int) -> str:
        return "" if self.table is None else format_docid(self.table.codes[row].tolist())


def _check_queries(queries: Sequence[str], k: int, names: Sequence[str]) -> None:
    """Raises InputError for what cannot be searched for."""
    if not isinstance(k, int | np.integer) or k < 1:
        raise InputError("k", repr(k), "an integer of at least 1")
    if not len(queries):
        raise InputError("queries", "none", "at least one")
    for name, query in zip(names, queries, strict=True):
        if not isinstance(query, str) or not query.strip():
            raise InputError(name, f"{query!r:.60}", "text that is not blank")
        if not query.isascii() and any("\ud800" <= letter <= "\udfff" for letter in query):
            raise InputError(name, f"a lone surrogate in {query!r:.60}", "valid Unicode")


def _plain(value: Any) -> Any:
    """Lists in the place of tuples, sets and arrays, inner ones too."""
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, np.str_) else value


def _check_allowed(documents: np.ndarray, allowed: np.ndarray, name: str) -> None:
    """Raises InputError for a result that a filter excludes."""
    excluded = (documents >= 0) & ~np.take_along_axis(allowed, np.maximum(documents, 0), axis=1)
    if excluded.any():
        raise InputError(
            f"retriever {name}",
            f"row {documents[excluded][0]}, which the filter excludes",
            "rows that are True in `allowed`",
        )


def _joined(parts: Sequence[Ranking]) -> Ranking:
    """The rankings of all queries, of those of some after the others."""
    width = max(part.documents.shape[1] for part in parts)

    def padded(array: np.ndarray, value: float) -> np.ndarray:
        missing = ((0, 0), (0, width - array.shape[1]))
        return np.pad(array, missing, constant_values=value)

    proven = None
    if all(part.proven is not None for part in parts):
        proven = np.concatenate([np.asarray(part.proven) for part in parts])
    return Ranking(
        np.concatenate([padded(part.documents, -1) for part in parts]),
        np.concatenate([padded(part.scores, -np.inf) for part in parts]),
        proven,
    )
