"""Shapes are checked at every call, ranks are never promoted in silence, warnings are errors."""

import hypothesis
import jax
from jaxtyping import install_import_hook

# A test that fails where the machine is busy says nothing of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

jax.config.update("jax_numpy_rank_promotion", "raise")

install_import_hook(
    [f"catid2_jax.{part}" for part in ("ops", "losses", "models", "decoding")],
    "beartype.beartype",
)
