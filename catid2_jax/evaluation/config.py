"""What is measured: the configuration's section `evaluate`."""

import dataclasses
from typing import Literal

from catid2_jax.constraints import NonNegativeInt, PositiveInt, check_fields
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

    cutoffs: tuple[PositiveInt, ...] = CUTOFFS
    ties: Literal["catalogue", "trec_eval"] = "catalogue"
    examples: NonNegativeInt = 4
    retrieval: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.cutoffs:
            raise InputError("cutoffs", "()", "one or more")
