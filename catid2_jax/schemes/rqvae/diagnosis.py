"""Tells which terms of Eq. 8 act on the encoder, and whether L_CSC sees the codes' usage."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from catid2_jax.losses import OF_CODEBOOKS, LossWeights, log_mean_probabilities
from catid2_jax.models.rqvae import RQVAE
from catid2_jax.schemes.rqvae.step import RQVAEData, forward
from catid2_jax.types import Scalar

_DOCUMENTS = 1024  # of a diagnosis
_IDLE, _RULES = 0.02, 20.0
_PREFIX = "gradient_norm/"


def make_diagnosis(
    model: RQVAE, weights: LossWeights, data: RQVAEData, seed: int
) -> Callable[[dict], dict[str, float]]:
    """Makes a function of the parameters that measures the terms on a sample of the corpus.

    Its figures are `gradient_norm/TERM`, the Euclidean norm of the gradient of each weighted term
    by the encoder's parameters, for terms that reach these, and `usage_correlation/level_l`, the
    correlation over the codes in use of the logarithms of soft usage, mean p^l, and of hard usage,
    how many documents have the code.

    Args:
        model: the RQ-VAE.
        weights: the terms of the loss.
        data: the corpus, on the host.
        seed: seed of the choice of documents.
    """
    documents = len(data.embeddings)
    generator = np.random.default_rng([seed, 12])
    rows = generator.choice(documents, min(documents, _DOCUMENTS), replace=False)
    sample = data.batch(np.sort(rows))
    keys = jax.random.key(seed), jax.random.key(seed + 1)
    factors = {"residual_quantization": 1.0, **vars(weights)}

    def terms(params: dict, batch: RQVAEData) -> tuple[dict[str, Scalar], jax.Array]:
        output, found = forward(model, params, batch, weights, *keys)
        weighted = {name: factors[name] * value for name, value in found.items()}
        quantization = output.quantization
        return weighted, jax.vmap(_usage_correlation, in_axes=(1, 1))(
            quantization.log_probabilities, quantization.codes
        )

    @jax.jit
    def measure(params: dict, batch: RQVAEData) -> tuple[dict[str, Scalar], Any]:
        weighted, pull_back, correlations = jax.vjp(
            functools.partial(terms, batch=batch), params, has_aux=True
        )
        norms = {}
        for name in (name for name in weighted if name not in OF_CODEBOOKS):
            chosen = {other: jnp.float32(other == name) for other in weighted}
            (gradient,) = pull_back(chosen)
            encoder = {part: g for part, g in gradient.items() if part.startswith("encoder")}
            norms[name] = _norm(encoder)
        return norms, correlations

    def diagnose(params: dict) -> dict[str, float]:
        norms, correlations = jax.device_get(measure(params, sample))
        figures = {f"{_PREFIX}{name}": float(norm) for name, norm in norms.items()}
        levels = enumerate(correlations, 1)
        return figures | {f"usage_correlation/level_{level}": float(c) for level, c in levels}

    return diagnose


def _norm(gradient: Any) -> Scalar:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)))


def _usage_correlation(
    log_probabilities: Float[Array, "B K"], codes: Int[Array, " B"]
) -> Float[Array, ""]:
    """Correlates log soft and log hard usage over the codes in use; 0 where either is constant."""
    counts = jnp.zeros(log_probabilities.shape[1]).at[codes].add(1.0)
    used = counts > 0

    def centred(values: jax.Array) -> jax.Array:
        return jnp.where(used, values - jnp.mean(values, where=used), 0.0)

    soft = centred(log_mean_probabilities(log_probabilities))
    hard = centred(jnp.log(jnp.maximum(counts, 1.0)))
    return soft @ hard / jnp.maximum(jnp.linalg.norm(soft) * jnp.linalg.norm(hard), 1e-12)


def term_problems(figures: Mapping[str, float]) -> dict[str, str]:
    """Name of each term whose gradient is far from the others' -> what that means, in words."""
    norms = {
        name.removeprefix(_PREFIX): value
        for name, value in figures.items()
        if name.startswith(_PREFIX)
    }
    found = {}
    for name, norm in norms.items():
        others = [value for other, value in norms.items() if other != name]
        if not others:
            continue
        largest = max(others)
        if norm < _IDLE * largest:
            found[name] = (
                f"the term {name} is idle: the norm of its gradient is {norm:.2g}, and another's "
                f"{largest:.2g}. Raise its weight, or set it to 0"
            )
        elif norm > _RULES * sum(others):
            found[name] = (
                f"the term {name} rules: the norm of its gradient is {norm:.2g}, and those of all "
                f"others {sum(others):.2g} together. Lower its weight"
            )
    return found
