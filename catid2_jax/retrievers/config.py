"""How is searched: the configuration's section `retrieve`."""

import dataclasses
from typing import Literal

from catid2_jax.constraints import FileName, LocalPath, NonNegativeInt, PositiveInt, check_fields
from catid2_jax.errors import InputError
from catid2_jax.models.param_dtype import ParamDtype
from catid2_jax.seq2seq.decoder import AutoNormalizeOver


@dataclasses.dataclass(frozen=True)
class RetrieveConfig:
    """How is searched.

    Attributes:
        queries: JSON Lines of the queries to search for; empty for the test queries. A query may
            have lists `allow_ids`, `deny_ids`, `allow_categories` and `deny_categories` of its own,
            which narrow the files below.
        query_vectors: .npy of [queries, width], a row per line of `queries`, made by the encoder of
            the products' embeddings; where stage 2 reads vectors, and for the system "clusters".
            Those of the test queries are `embedding.test_query_vectors`.
        k: documents per query.
        beams: M, prefixes kept at each level.
        max_beams: a query whose k results are not proven to be the best is searched for again with
            twice the beams, up to this many; 0 for a single search.
        normalize_over: what a code competes with for probability: the whole vocabulary ("full"),
            the codes of its level ("level", which is faster), those that lead to a document
            ("valid"), or what `seq2seq.objective.normalize_over` says ("auto"). What was trained
            over "level" cannot be searched over "full".
        param_dtype: the type in which the network's matrices are kept.
        checkpoint: the state of stage 2 that searches: the "last", the "best" by
            `seq2seq_training.best_metric`, or "auto" for the best where dev was measured.
        allow_ids: file of the ids of products that may be found, one per line, or JSON Lines with
            `id`; empty for all.
        deny_ids: file of the ids of products that may not be found.
        allow_categories: file of category paths ("Garden > Tools") whose products may be found, one
            per line, or JSON Lines with `categories`; empty for all.
        deny_categories: file of category paths whose products may not be found.
        batch_size: queries per call.
        output: name of the TREC run in a system's folder.
    """

    queries: LocalPath = ""
    query_vectors: LocalPath = ""
    k: PositiveInt = 100
    beams: PositiveInt = 100
    max_beams: NonNegativeInt = 0
    normalize_over: AutoNormalizeOver = "auto"
    param_dtype: ParamDtype = "float32"
    checkpoint: Literal["auto", "last", "best"] = "auto"
    allow_ids: LocalPath = ""
    deny_ids: LocalPath = ""
    allow_categories: LocalPath = ""
    deny_categories: LocalPath = ""
    batch_size: PositiveInt = 64
    output: FileName = "run.trec"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_beams and self.max_beams < self.beams:
            raise InputError("max_beams", self.max_beams, f"at least beams = {self.beams}, or 0")
        if self.query_vectors and not self.queries:
            raise InputError(
                "queries",
                f"'' with query_vectors {self.query_vectors!r}",
                "the path of their queries; vectors of the test queries come with the embeddings",
            )
