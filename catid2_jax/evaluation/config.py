"""What is measured: the configuration's section `evaluate`."""

import dataclasses

from catid2_jax.constraints import NonNegativeInt, PositiveInt, check_fields
from catid2_jax.errors import InputError
from catid2_jax.evaluation.recall import CUTOFFS


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """What is measured.

    Attributes:
        cutoffs: k of Recall@k.
        examples: test queries printed with what the first system found.
        retrieval: whether systems are trained to retrieve and their Recall is measured; False for
            the figures of the document IDs alone.
    """

    cutoffs: tuple[PositiveInt, ...] = CUTOFFS
    examples: NonNegativeInt = 4
    retrieval: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.cutoffs:
            raise InputError("cutoffs", "()", "one or more")
