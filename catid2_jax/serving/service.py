"""From a request to ranked rows: limits, tokens, the queue, fusion; it knows no HTTP."""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from catid2_jax.decoding.filters import Filter, parse_filter
from catid2_jax.errors import InputError
from catid2_jax.retrievers.fused import reciprocal_rank_fusion
from catid2_jax.retrievers.retriever import Ranking
from catid2_jax.serving.attributes import Condition
from catid2_jax.serving.config import ServeConfig
from catid2_jax.serving.engine import Engine, Job
from catid2_jax.serving.living import Living
from catid2_jax.serving.metrics import Metrics
from catid2_jax.serving.schema import FilterRequest, Options
from catid2_jax.serving.search import CompiledSearch, Found, LeastRecentlyUsed, Mask
from catid2_jax.serving.version import Conditions, Version

_DECIMALS = 4  # of a score; the last bits of a float32 depend on the size of the batch

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Ranked:
    """What a query found.

    Attributes:
        hits: (row of the catalogue, score), best first.
        proven: whether no other product can have a higher score; None if that is not known.
    """

    hits: Sequence[tuple[int, float]]
    proven: bool | None


class Service:
    """Answers requests by the current version."""

    def __init__(
        self, config: ServeConfig, living: Living, engine: Engine, metrics: Metrics
    ) -> None:
        self.config, self.living, self.engine, self.metrics = config, living, engine, metrics
        self._kept = LeastRecentlyUsed(config.cache)
        self._threads = ThreadPoolExecutor(2, "texts")

    async def rank(
        self, version: Version, texts: Sequence[str], options: Options, extra: int = 0
    ) -> list[Ranked]:
        """Ranks the products of a version.

        Args:
            version: answers all of the request.
            texts: the queries.
            options: how is searched.
            extra: results beyond `options.k`.

        Raises:
            InputError: a query, a filter or a number out of bounds; `where` names the field.
            QueueFull: too many queries wait.
            TimeoutError: there was no result in time.
        """
        k = options.k + extra
        self._check(version, texts, options, k)
        conditions = self._conditions(options.filter)
        async with asyncio.timeout(self.config.timeout):
            mask = version.everything
            if conditions is not None:
                mask = await self._in_thread(version.mask, conditions)
            generated: list[Found] = []
            if options.method == "clusters":
                return await self._of_clusters(version, texts, mask, k)
            if options.method != "bm25":
                generated = await self._generate(version, texts, conditions, mask, options, k)
            if options.method == "generated":
                return [_of_found(found, k) for found in generated]
            by_words = await self._in_thread(_by_words, version, texts, mask)
        if options.method == "bm25":
            return [Ranked(_hits(by_words, query)[:k], None) for query in range(len(texts))]
        both = zip(generated, by_words.documents, strict=True)
        return [Ranked(_fused(found.rows, rows, k), None) for found, rows in both]

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown()

    def _check(self, version: Version, texts: Sequence[str], options: Options, k: int) -> None:
        config, most = self.config, version.search.beams
        if options.method == "clusters" and not version.clusters:
            raise InputError("method", "'clusters'", "a server that has clusters (cluster_level)")
        if k > most:
            raise InputError("k", options.k, f"1 to {most - (k - options.k)}")
        if not 1 <= len(texts) <= config.batch:
            raise InputError("queries", f"{len(texts)} queries", f"1 to {config.batch}")
        for number, text in enumerate(texts):
            if not text.strip():
                raise InputError(f"queries.{number}", "blank text", "a query")
            if len(text) > config.query_length:
                expected = f"at most {config.query_length}"
                raise InputError(f"queries.{number}", f"{len(text)} characters", expected)

    def _conditions(self, given: FilterRequest | None) -> Conditions | None:
        """A request's filter, as it is kept.

        Raises:
            InputError: more entries than are allowed, or one that is no id or category.
        """
        if given is None:
            return None
        lists = given.model_dump(exclude_none=True, exclude={"attributes"})
        attributes = tuple(
            Condition(
                name,
                values.at_least,
                values.at_most,
                None if values.one_of is None else tuple(values.one_of),
            )
            for name, values in sorted((given.attributes or {}).items())
        )
        for name, entries in lists.items():
            if len(entries) > self.config.filter_entries:
                expected = f"at most {self.config.filter_entries}"
                raise InputError(f"filter.{name}", f"{len(entries)} entries", expected)
        parsed = [parse_filter({name: value}, f"filter.{name}") for name, value in lists.items()]
        merged = {name: getattr(part, name) for name, part in zip(lists, parsed, strict=True)}
        if not merged and not attributes:
            return None
        return Filter(**merged), attributes

    async def _of_clusters(
        self, version: Version, texts: Sequence[str], mask: Mask, k: int
    ) -> list[Ranked]:
        """Ranks by dense scores what is beneath the best prefixes; nothing of it is proven."""
        clusters = version.clusters
        assert clusters
        sources = await self._in_thread(version.model.source.of_queries, texts)
        found = await self._wait(clusters.search, list(sources), mask, clusters.search.beams)
        vectors = await self._in_thread(clusters.dense.of_queries, texts)
        ranking = await self._in_thread(clusters.rank, found, vectors, k, mask.allowed)
        return [Ranked(_hits(ranking, query), None) for query in range(len(texts))]

    async def _generate(
        self,
        version: Version,
        texts: Sequence[str],
        conditions: Conditions | None,
        mask: Mask,
        options: Options,
        k: int,
    ) -> list[Found]:
        """The results of the beam search, of those kept or of the queue."""
        proof = k if options.exact else 0
        keys = [(version.name, text, conditions, proof) for text in texts]
        results = [self._kept.get(key) for key in keys]
        missing = [n for n, found in enumerate(results) if found is None]
        self.metrics.cache.labels("yes").inc(len(texts) - len(missing))
        self.metrics.cache.labels("no").inc(len(missing))
        if missing:
            wanted = [texts[n] for n in missing]
            sources = await self._in_thread(version.model.source.of_queries, wanted)
            found = await self._search(version, sources, mask, proof)
            for n, result in zip(missing, found, strict=True):
                results[n] = result
                self._kept.put(keys[n], result)
        return [result for result in results if isinstance(result, Found)]

    async def _search(
        self, version: Version, sources: np.ndarray, mask: Mask, proof: int
    ) -> list[Found]:
        """Searches, and again with more beams for queries whose first `proof` are not proven."""
        results: list[Found] = []
        pending = list(range(len(sources)))
        for beams in version.search.widths:
            wanted = [sources[n] for n in pending]
            found = await self._wait(version.search, wanted, mask, beams)
            if not results:
                results = found
            for n, result in zip(pending, found, strict=True):
                results[n] = result
            pending = [n for n in pending if not results[n].proves(proof)]
            if not pending:
                break
        return results

    async def _wait(
        self, search: CompiledSearch, sources: Sequence[np.ndarray], mask: Mask, beams: int
    ) -> list[Found]:
        loop = asyncio.get_running_loop()
        jobs = [Job(search, source, mask, beams, loop.create_future()) for source in sources]
        self.engine.submit(jobs)
        try:
            return [await job.future for job in jobs]
        finally:
            for job in jobs:
                job.future.cancel()  # those of a request that is given up need no search

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)


def _by_words(version: Version, texts: Sequence[str], mask: Mask) -> Ranking:
    """BM25's ranking, always of the same length, since its selection is compiled for it."""
    return version.bm25.search(texts, version.search.beams, allowed=mask.allowed)


def _of_found(found: Found, k: int | None = None) -> Ranked:
    rows, scores = found.rows[:k], found.scores[:k]
    pairs = zip(rows.tolist(), scores.tolist(), strict=True)
    hits = [(row, round(score, _DECIMALS)) for row, score in pairs if row >= 0]
    return Ranked(hits, found.proves(len(found.rows) if k is None else k))


def _hits(ranking: Ranking, query: int) -> list[tuple[int, float]]:
    pairs = zip(ranking.documents[query].tolist(), ranking.scores[query].tolist(), strict=True)
    return [(row, round(score, _DECIMALS)) for row, score in pairs if row >= 0]


def _fused(generated: np.ndarray, by_words: np.ndarray, k: int) -> list[tuple[int, float]]:
    """One query's rows of both, and the sums of their reciprocal ranks."""
    ranking = reciprocal_rank_fusion([generated[None], by_words[None]], k)
    pairs = zip(ranking.documents[0].tolist(), ranking.scores[0].tolist(), strict=True)
    return [(row, score) for row, score in pairs if row >= 0]
