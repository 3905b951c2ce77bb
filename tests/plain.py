"""Stage 1 as the paper writes it, for tests that write it out again."""

from typing import Any

from catid2_jax.losses import LITERAL, LossWeights
from catid2_jax.models.rqvae import RQVAEConfig


def plain_rqvae(**fields: Any) -> RQVAEConfig:
    """E and D are MLPs alone, and p^l has temperature 1, unless `fields` say otherwise."""
    plain = {"linear_path": "none", "code_temperature": 1.0, "code_temperature_unit": "one"}
    return RQVAEConfig(**{**plain, "held_out": 0.0, **fields})


def plain_weights(**fields: Any) -> LossWeights:
    """The weights of section 4.1, unless `fields` say otherwise."""
    return LossWeights(**{**vars(LITERAL), **fields})
