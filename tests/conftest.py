"""Shapes are checked at every call, ranks are never promoted in silence, warnings are errors."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")

install_import_hook(
    [f"catid2_jax.{part}" for part in ("ops", "losses", "models", "decoding")],
    "beartype.beartype",
)
