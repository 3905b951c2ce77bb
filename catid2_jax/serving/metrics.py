"""What a service counts, in Prometheus's form."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "catid2_requests", "Requests answered", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "catid2_request_seconds",
            "Time from a request to its answer",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_queries = Histogram(
            "catid2_batch_queries", "Queries per search", buckets=_SIZES, registry=registry
        )
        self.beam_rows = Counter(
            "catid2_beam_rows", "Queries times beams searched with", registry=registry
        )
        self.cache = Counter(
            "catid2_cached_queries",
            "Queries by whether they were kept",
            ["kept"],
            registry=registry,
        )
        self.version = Gauge(
            "catid2_version_info", "The version that answers", ["version"], registry=registry
        )
        self.changes = Counter(
            "catid2_version_changes", "Changes of the version", ["outcome"], registry=registry
        )

    def gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Adds a value that is asked for when the metrics are."""
        Gauge(name, about, registry=self._registry).set_function(value)

    def batch(self, queries: int, beam_rows: int) -> None:
        """Counts a batch of the search."""
        self.batch_queries.observe(queries)
        self.beam_rows.inc(beam_rows)

    def set_version(self, name: str) -> None:
        """Names the version that answers."""
        self.version.clear()
        self.version.labels(name).set(1)

    def text(self) -> bytes:
        """All metrics, as a scraper reads them."""
        return generate_latest(self._registry)
