"""One version of what is served: products, IDs, network and stock, which never change."""

import copy
import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from catid2_jax.data.corpus import Corpus
from catid2_jax.decoding.clusters import Clusters
from catid2_jax.decoding.filters import FIELDS, Filter, FilterIndex
from catid2_jax.docids.table import format_docid
from catid2_jax.errors import InputError
from catid2_jax.retrievers.bm25 import BM25Retriever
from catid2_jax.retrievers.generative import GenerativeRetriever, TrainedModel
from catid2_jax.retrievers.product_retriever import ProductRetriever
from catid2_jax.retrievers.retriever import Ranking
from catid2_jax.serving.attributes import Attributes, Condition
from catid2_jax.serving.config import ServeConfig
from catid2_jax.serving.dense import Dense
from catid2_jax.serving.search import CompiledSearch, Found, LeastRecentlyUsed, Mask, PrefixSearch

_MASKS = 64  # filters whose masks are kept
_FRAGMENTS = 65_536  # products whose JSON is kept
_PROBES = 4  # titles that a new version is tried with

Conditions = tuple[Filter, tuple[Condition, ...]]
"""What a request may find: by id and category, and by further fields of the products."""


@dataclasses.dataclass(frozen=True)
class DenseClusters:
    """Section 4.7 over one version's products.

    Attributes:
        search: for the prefixes.
        clusters: the products beneath them.
        dense: their embeddings and the queries' encoder.
    """

    search: PrefixSearch
    clusters: Clusters
    dense: Dense

    def rank(
        self, found: Sequence[Found], vectors: np.ndarray, k: int, allowed: np.ndarray
    ) -> Ranking:
        """Ranks what is beneath the prefixes that each query has found.

        Args:
            found: prefixes, per query.
            vectors: the queries', float [Q, D].
            k: products per query.
            allowed: bool [N], what may be found.
        """
        nodes, scores = (np.stack([getattr(f, name) for f in found]) for name in ("rows", "scores"))
        return Ranking(*self.clusters.rank(nodes, scores, vectors, k, allowed))


class Version:
    """A retriever with everything that a service needs of it, built before it serves.

    Attributes:
        name: tells it from every other version; the same parts have the same name everywhere.
        catalog: the products.
        table: their document IDs.
        search: the compiled search.
        bm25: BM25 over the same products.
        clusters: section 4.7's search of them, where it is asked for.
        out_of_stock: number of products that may not be found.
        everything: the mask of the products that may be found.
    """

    def __init__(
        self,
        name: str,
        retriever: ProductRetriever,
        config: ServeConfig,
        out_of_stock: Sequence[str] = (),
        dense: Dense | None = None,
    ) -> None:
        """Takes a retriever.

        Args:
            name: the version's name.
            retriever: a retriever that generates IDs.
            config: beams and budget.
            out_of_stock: products that may not be found; those that there are not are ignored.
            dense: the products' embeddings, where clusters are asked for.

        Raises:
            InputError: the retriever generates no IDs, or the budget is below one query.
        """
        inner = retriever.retriever
        if not isinstance(inner, GenerativeRetriever) or retriever.table is None:
            raise InputError(
                "system",
                f"{retriever.name!r}, which generates no IDs",
                "a system that does, such as 'cat_id2'",
            )
        self.name, self.config = name, config
        self.retriever, self.catalog, self.table = retriever, retriever.catalog, retriever.table
        beams = config.beams or inner.config.beams
        self.search = CompiledSearch(inner.model, beams, config.max_beams, config.beam_rows)
        self.bm25 = BM25Retriever(Corpus(self.catalog))
        self.clusters = None
        if dense:
            level = config.cluster_level
            prefixes = PrefixSearch(inner.model, beams, config.beam_rows, level)
            ranker = Clusters(inner.model.trie, level, dense.embeddings)
            self.clusters = DenseClusters(prefixes, ranker, dense)
        self._fragments = LeastRecentlyUsed(_FRAGMENTS)
        self._attributes = Attributes(self.catalog)
        self._set_stock(out_of_stock)

    def with_stock(self, name: str, out_of_stock: Sequence[str]) -> "Version":
        """The same version but for its name and what is out of stock; all else is shared."""
        new = copy.copy(self)
        new.name = name
        new._set_stock(out_of_stock)
        return new

    def _set_stock(self, out_of_stock: Sequence[str]) -> None:
        rows = [self.catalog.rows[i] for i in out_of_stock if i in self.catalog.rows]
        in_stock = np.ones(len(self.catalog), bool)
        in_stock[rows] = False
        self.out_of_stock = len(rows)
        self.everything = self.search.mask(in_stock)
        self._masks = LeastRecentlyUsed(_MASKS)

    @property
    def model(self) -> TrainedModel:
        """The network and its trie."""
        return self.search.model

    @functools.cached_property
    def index(self) -> FilterIndex:
        """The products by id and by category."""
        return FilterIndex(self.catalog.ids, self.catalog.paths)

    def mask(self, conditions: Conditions | None) -> Mask:
        """The mask of a request's conditions and the stock.

        Raises:
            InputError: an id, a category or a field that no product has; `where` names the field.
        """
        if conditions is None:
            return self.everything
        kept = self._masks.get(conditions)
        if isinstance(kept, Mask):
            return kept
        given, attributes = conditions
        allowed = self.everything.allowed.copy()
        for name in FIELDS:
            if getattr(given, name) is not None:
                alone = Filter(**{name: getattr(given, name)})
                allowed &= self.index.allowed(alone, f"filter.{name}")
        for condition in attributes:
            allowed &= self._attributes.allowed(condition)
        mask = self.search.mask(allowed)
        self._masks.put(conditions, mask)
        return mask

    def tokens(self, row: int) -> list[str]:
        """The ID of a product as it is generated, token by token."""
        return docid_tokens(self.table.codes[row].tolist())

    def fragment(self, row: int) -> str:
        """The fields of a hit that depend on its product alone, as JSON without braces."""
        kept = self._fragments.get(row)
        if isinstance(kept, str):
            return kept
        text = json.dumps(self.describe(row), ensure_ascii=False)[1:-1]
        self._fragments.put(row, text)
        return text

    def describe(self, row: int) -> dict[str, Any]:
        """A product as answers have it."""
        tokens = self.tokens(row)
        return {
            "id": self.catalog.ids[row],
            "title": self.catalog.titles[row],
            "categories": list(self.catalog.paths[row]),
            "docid": "".join(tokens),
            "tokens": tokens,
        }

    def neighbours(self, row: int, count: int) -> list[int]:
        """The other products whose IDs share the longest prefix with a product's, in ID order."""
        codes = self.table.codes
        shared = np.cumprod(codes == codes[row], axis=1).sum(axis=1)
        shared[row] = -1
        order = np.lexsort((*codes.T[::-1], -shared))
        return [int(n) for n in order[:count] if shared[n] > 0]

    def tree(self, prefix: Sequence[int], examples: int = 3) -> dict[str, Any] | None:
        """What is beneath a prefix of codes, or None if nothing is."""
        codes, depth = self.table.codes, len(prefix)
        beneath = np.flatnonzero((codes[:, :depth] == np.asarray(prefix, np.int32)).all(axis=1))
        if not len(beneath):
            return None
        children: dict[int, list[int]] = {}
        if depth < codes.shape[1]:
            for row in beneath.tolist():
                children.setdefault(int(codes[row, depth]), []).append(row)
        return {
            "docid": format_docid(prefix),
            "products": len(beneath),
            "children": [
                {
                    "docid": format_docid([*prefix, code]),
                    "products": len(children[code]),
                    "category": list(self._commonest(children[code])),
                    "examples": [self.catalog.titles[row] for row in children[code][:examples]],
                }
                for code in sorted(children)
                if code >= 0
            ],
            "ids": [self.catalog.ids[row] for row in (beneath if depth else beneath[:0])][:100],
        }

    def _commonest(self, rows: Sequence[int]) -> tuple[str, ...]:
        ((path, _),) = Counter(self.catalog.paths[row] for row in rows).most_common(1)
        return path

    def prepare(self) -> None:
        """Compiles the search, fills what is made on first use, and tries it.

        Raises:
            InputError: the search does not give what it must.
        """
        _ = self.catalog.ids, self.catalog.titles, self.catalog.paths, self.catalog.rows, self.index
        self.search.prepare(self.everything)
        if self.clusters:
            self.clusters.search.prepare(self.everything)
            self.clusters.dense.of_queries(self.catalog.titles[:1])
        # Its selection is compiled too, for this number of products and results.
        self.bm25.search(
            self.catalog.titles[:1], self.search.beams, allowed=self.everything.allowed
        )
        self._check()

    def _check(self) -> None:
        """Searches for some titles; every result must be allowed, in order, and a number."""
        rows = np.unique(np.linspace(0, len(self.catalog) - 1, _PROBES).astype(int))
        titles = [self.catalog.titles[row] for row in rows]
        sources = self.model.source.of_queries(titles)
        allowed = self.everything.allowed
        expected = min(self.search.beams, int(allowed.sum()))
        for title, source in zip(titles, sources, strict=True):
            (found,) = self.search.run(source[None], [self.everything], self.search.beams)
            hits = found.rows[found.rows >= 0]
            scores = found.scores[: len(hits)]
            if len(hits) != expected or not np.isfinite(scores).all():
                raise InputError(
                    f"version {self.name}",
                    f"{len(hits)} results with finite scores for {title!r:.60}",
                    f"{expected}: the parameters are damaged or not of these IDs",
                )
            if not allowed[hits].all() or len(set(hits.tolist())) < len(hits):
                raise InputError(
                    f"version {self.name}", "a product twice or out of stock", "each once, in stock"
                )


def docid_tokens(codes: Sequence[int]) -> list[str]:
    """`[65, 225]` -> `["<a_65>", "<b_225>"]`."""
    return [f"{token}>" for token in format_docid(codes).split(">")[:-1]]
