"""Residual quantisation with trained codebooks (section 3)."""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from catid2_jax.ops.similarity import distance, squared_distance
from catid2_jax.ops.sinkhorn import sinkhorn
from catid2_jax.types import CodeProbabilities, Codes, Latents, Residuals

CodeDistance = Literal["euclidean", "squared"]
ResidualGradient = Literal["stop_codes", "straight_through"]
TemperatureUnit = Literal["one", "level"]


@flax.struct.dataclass
class Quantization:
    """Every intermediate of the quantiser.

    Attributes:
        quantized: z^ = sum_l e_{c^l}, straight-through (its gradient is that of z), [B, Z].
        residuals: r^l before quantisation, as it stands beside the codes, [B, L, Z].
        selected: e_{c^l}, [B, L, Z].
        codes: c^l, [B, L].
        log_probabilities: log p^l, [B, L, K].
    """

    quantized: Latents
    residuals: Residuals
    selected: Residuals
    codes: Codes
    log_probabilities: CodeProbabilities


def quantize(
    latents: Latents,
    codebooks: Float[Array, "L K Z"],
    temperature: float = 1.0,
    residual_gradient: ResidualGradient = "stop_codes",
    code_distance: CodeDistance = "euclidean",
    sinkhorn_epsilon: float = 0.0,
    temperature_unit: TemperatureUnit = "one",
    shrinkage: Sequence[float] = (),
) -> Quantization:
    """Quantises level by level: p^l = softmax(-||r^l - e_k||_2 / temperature), c^l its argmax.

    Args:
        latents: z = r^0.
        codebooks: one [K, Z] codebook per level.
        temperature: temperature of p^l; the paper's is 1.
        residual_gradient: "stop_codes" has r^{l+1} = r^l - sg[e], so that a loss of any residual
            reaches the encoder; "straight_through" has r^{l+1} = r^l - (r^l + sg[e - r^l]), like
            much public code: then no gradient passes from level l + 1 to r^l.
        code_distance: "euclidean" for ||r^l - e_k||, "squared" for ||r^l - e_k||^2.
        sinkhorn_epsilon: if more than 0, the last level's codes are the argmax of a transport plan
            from the batch to evenly used codes (see `ops.sinkhorn`), with this weight of the
            entropy, relative to the mean cost.
        temperature_unit: "one", or "level": the temperature of a level is then in units of the
            standard deviation of a document's distances over the codes, mean over the batch,
            without gradient. So p^l follows the usage of the codes at any scale of the residuals.
        shrinkage: alpha of the first levels, 1 for the others: r^l / alpha stands for r^l beside
            the codes, and r^{l+1} is still r^l - e, so that a share of what a level says stays for
            the next ones. With codes scaled by the product of the alphas, this is HierGR's
            r^{l+1} = alpha r^l - e (Zhang et al., 2025).
    """
    residual = latents
    residuals, selected, codes, log_probabilities = [], [], [], []
    measure = distance if code_distance == "euclidean" else squared_distance
    for level, codebook in enumerate(codebooks, 1):
        shrunk = residual / shrinkage[level - 1] if level <= len(shrinkage) else residual
        distances = measure(shrunk, codebook)
        log_p = _log_softmin(distances, temperature, temperature_unit)
        balanced = sinkhorn_epsilon > 0 and level == len(codebooks)
        scores = _evenly(distances, sinkhorn_epsilon) if balanced else log_p
        code = jnp.argmax(scores, axis=-1)
        vector = codebook[code]
        residuals.append(shrunk)
        selected.append(vector)
        codes.append(code)
        log_probabilities.append(log_p)
        if residual_gradient == "straight_through":
            residual = jax.lax.stop_gradient(residual - vector)
        else:
            residual = residual - jax.lax.stop_gradient(vector)
    total = sum(selected)
    return Quantization(
        quantized=latents + jax.lax.stop_gradient(total - latents),
        residuals=jnp.stack(residuals, axis=1),
        selected=jnp.stack(selected, axis=1),
        codes=jnp.stack(codes, axis=1).astype(jnp.int32),
        log_probabilities=jnp.stack(log_probabilities, axis=1),
    )


def _log_softmin(
    distances: Float[Array, "B K"], temperature: float, unit: TemperatureUnit
) -> Float[Array, "B K"]:
    """Returns log p^l; see `quantize`."""
    logits = -distances / temperature
    if unit == "level":
        spread, mean = jnp.mean(jnp.std(distances, axis=1)), jnp.mean(distances)
        # Where codes coincide there is hardly a spread.
        logits /= jax.lax.stop_gradient(jnp.maximum(spread, 1e-3 * mean))
    # The gradient of a plain difference takes a fourth of jax.nn.log_softmax's time on CPUs.
    return logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)


def _evenly(distances: Float[Array, "B K"], epsilon: float) -> Float[Array, "B K"]:
    """Returns the log transport plan from the batch to codes of equal mass."""
    batch, codes = distances.shape
    cost = jax.lax.stop_gradient(distances / jnp.mean(distances))
    return sinkhorn(cost, jnp.ones(batch), jnp.full(codes, batch / codes), epsilon, 50)


class ResidualQuantizer(nn.Module):
    """Holds the L codebooks; `quantize` does the work.

    Attributes:
        levels: L.
        codebook_size: K.
        temperature: temperature of p^l.
        residual_gradient: how gradients pass between levels, as `quantize` explains.
        code_distance: distance of a residual from a code, as `quantize` explains.
        sinkhorn_epsilon: weight of the entropy in training, as `quantize` explains; 0 in any other
            use.
        temperature_unit: unit of `temperature`, as `quantize` explains.
        shrinkage: alpha of the first levels, as `quantize` explains.
    """

    levels: int
    codebook_size: int
    temperature: float = 1.0
    residual_gradient: ResidualGradient = "stop_codes"
    code_distance: CodeDistance = "euclidean"
    sinkhorn_epsilon: float = 0.0
    temperature_unit: TemperatureUnit = "one"
    shrinkage: Sequence[float] = ()

    @nn.compact
    def __call__(self, latents: Latents, training: bool = False) -> Quantization:
        """Quantises a batch with the module's own codebooks."""
        codebooks = self.param(
            "codebooks",
            nn.initializers.normal(1.0 / self.codebook_size),
            (self.levels, self.codebook_size, latents.shape[-1]),
        )
        return quantize(
            latents,
            codebooks,
            self.temperature,
            self.residual_gradient,
            self.code_distance,
            self.sinkhorn_epsilon if training else 0.0,
            self.temperature_unit,
            self.shrinkage,
        )
