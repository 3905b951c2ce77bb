"""What is measured: the configuration's section `evaluate`."""

import dataclasses
from typing import Literal

from catid2_jax.errors import InputError
from catid2_jax.evaluation.recall import CUTOFFS


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """What is measured.

    Attributes:
        cutoffs: k of Recall@k; those above `retrieve.k` are left out, for a run has no more.
        ties: in which order products of equal scores count: "catalogue", as they stand in the run,
            which has the catalogue's order; or "trec_eval", by falling id, as that program ranks a
            run whatever its column of ranks says.
        examples: test queries printed with what the first system found.
        retrieval: whether systems are trained to retrieve and their Recall is measured; False for
            the figures of the document IDs alone.
    """

    cutoffs: tuple[int, ...] = CUTOFFS
    ties: Literal["catalogue", "trec_eval"] = "catalogue"
    examples: int = 4
    retrieval: bool = True

    def __post_init__(self) -> None:
        if not self.cutoffs or min(self.cutoffs) < 1:
            raise InputError("cutoffs", self.cutoffs, "integers of at least 1")
        if self.examples < 0:
            raise InputError("examples", self.examples, "at least 0")
