"""The settings of `catid2 serve`: one dataclass, whose docstring is its --help."""

import dataclasses
from typing import Annotated

from catid2_jax.constraints import (
    LocalPath,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    at_least,
    at_most,
    check_fields,
)
from catid2_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """How a retriever is served.

    Attributes:
        system: which system of the work directory; empty for the first with a trained network.
        host: address to listen on; 0.0.0.0 to be reached from other machines.
        port: port to listen on; 0 for any free one.
        beams: prefixes kept at each level, and the most products of an answer; 0 for what the work
            directory's configuration says.
        max_beams: beams up to which a query that asks for proven results is searched again; 0 for
            none.
        cluster_level: codes of the prefixes beneath which the method "clusters" ranks products by
            dense scores; 0 for no such method. It needs a work directory, not a bundle, whose
            encoder encodes queries.
        beam_rows: most beam rows (queries times beams) of one call of the search.
        queue: most queries that wait for the search; with more, a request is answered by 429.
        batch: most queries of one request.
        query_length: most characters of a query.
        filter_entries: most ids and categories in the filter of a request.
        body_bytes: most bytes of a request's body.
        timeout: seconds until a request that has no answer yet is answered by 503.
        header_timeout: seconds in which a client must have sent a request.
        connections: most open connections; more are answered by 503.
        cache: queries whose results are kept; 0 for none.
        versions: folder of the bundles that may be switched to while serving; empty for none.
        state: file that keeps changes of products and stock over a restart; empty for none.
        drain: seconds for which a server that is told to end says that it is not ready, and still
            answers, before it closes its port.
        log_queries: whether the log has the queries' texts.
    """

    system: str = ""
    host: str = "127.0.0.1"
    port: Annotated[int, at_least(0), at_most(65535)] = 8080
    beams: NonNegativeInt = 0
    max_beams: NonNegativeInt = 0
    cluster_level: NonNegativeInt = 0
    beam_rows: PositiveInt = 3200
    queue: PositiveInt = 256
    batch: PositiveInt = 64
    query_length: PositiveInt = 512
    filter_entries: PositiveInt = 1000
    body_bytes: PositiveInt = 1_000_000
    timeout: PositiveFloat = 10.0
    header_timeout: PositiveFloat = 10.0
    connections: PositiveInt = 1024
    cache: NonNegativeInt = 4096
    versions: LocalPath = ""
    state: LocalPath = ""
    drain: NonNegativeFloat = 0.0
    log_queries: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch > self.queue:
            raise InputError("batch", self.batch, f"at most queue = {self.queue}")
