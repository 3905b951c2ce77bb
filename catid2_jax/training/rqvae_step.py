"""Stage 1: one step of Eq. 8, and what surrounds it."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from catid2_jax import losses
from catid2_jax.losses import LossWeights
from catid2_jax.models.rqvae import RQVAE, RQVAEOutput
from catid2_jax.ops.kmeans import kmeans
from catid2_jax.ops.similarity import squared_distance
from catid2_jax.training.loop import Metrics, StepFunction, TrainState
from catid2_jax.types import CategoryIds, Embeddings, Scalar


@flax.struct.dataclass
class RQVAEData:
    """The corpus: standardised embeddings [N, D] and category ids [N, H] (-1: no such level)."""

    embeddings: Float[Array, "N D"] | np.ndarray
    categories: Int[Array, "N H"] | np.ndarray


def docid_loss_terms(
    output: RQVAEOutput, embeddings: Embeddings, categories: CategoryIds, weights: LossWeights
) -> dict[str, Scalar]:
    """The terms of Eq. 8, by the argument names of `losses.docid_loss`; those of weight 0 left out.

    The category levels are those of `categories`; L_CSC is over all code levels.
    """
    quantization = output.quantization
    terms = {
        "residual_quantization": losses.residual_quantization_loss(
            quantization.residuals, quantization.selected, weights.commitment
        )
    }
    if weights.reconstruction:
        terms["reconstruction"] = losses.reconstruction_loss(embeddings, output.reconstructions)
    if weights.dispersion:
        terms["dispersion"] = losses.dispersion_loss(
            output.reconstructions, embeddings, weights.temperature
        )
    if weights.hierarchical_class and categories.shape[1]:
        terms["hierarchical_class"] = sum(
            (
                losses.hierarchical_class_constraint_loss(
                    quantization.residuals[:, level],
                    categories,
                    level,
                    weights.temperature,
                    weights.negatives,
                )
                for level in range(categories.shape[1])
            ),
            start=jnp.zeros(()),
        )
    if weights.cluster_scale:
        per_level = jax.vmap(losses.cluster_scale_constraint_loss, in_axes=1)
        terms["cluster_scale"] = jnp.sum(per_level(quantization.log_probabilities))
    return terms


def make_rqvae_step(
    model: RQVAE, optimizer: optax.GradientTransformation, weights: LossWeights
) -> StepFunction:
    """The step of stage 1 for the training loop, over `RQVAEData`."""

    def loss_function(
        params: dict, embeddings: jax.Array, categories: jax.Array
    ) -> tuple[Scalar, Metrics]:
        output: Any = model.apply({"params": params}, embeddings)
        terms = docid_loss_terms(output, embeddings, categories, weights)
        loss = losses.docid_loss(weights, **terms)
        usage = _perplexity(output.quantization.codes, model.config.codes)
        levels = {f"perplexity_{i}": value for i, value in enumerate(usage, 1)}
        return loss, {"loss": loss, **terms, **levels}

    def step(state: TrainState, data: RQVAEData, indices: jax.Array) -> tuple[TrainState, Metrics]:
        gradients, metrics = jax.grad(loss_function, has_aux=True)(
            state.params, data.embeddings[indices], data.categories[indices]
        )
        return state.descend(gradients, optimizer), metrics

    return step


def _perplexity(codes: Int[Array, "B L"], codes_per_level: int) -> list[jax.Array]:
    """Perplexity of each level's hard code usage in the batch; far below K is a collapse."""
    values = []
    for column in codes.T:
        share = jnp.zeros(codes_per_level).at[column].add(1.0 / len(column))
        values.append(jnp.exp(jnp.sum(jax.scipy.special.entr(share))))
    return values


def initialize_codebooks(params: dict, latents: Float[Array, "N Z"], key: jax.Array) -> dict:
    """Parameters whose codebooks are the k-means centroids of the corpus, level by level.

    Args:
        params: of an `RQVAE`.
        latents: z of the whole corpus under `params`.
        key: random key.
    """
    levels, codes, _ = params["quantizer"]["codebooks"].shape
    residuals = latents
    codebooks = []
    for level in range(levels):
        codebook = kmeans(residuals, codes, jax.random.fold_in(key, level))
        nearest = jnp.argmin(squared_distance(residuals, codebook), axis=1)
        residuals = residuals - codebook[nearest]
        codebooks.append(codebook)
    return {**params, "quantizer": {"codebooks": jnp.stack(codebooks)}}


def in_batches(
    function: Callable[[jax.Array], jax.Array], rows: np.ndarray, batch_size: int = 4096
) -> np.ndarray:
    """Applies a jitted function to all rows, a batch at a time; the last batch is padded."""
    outputs = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        padding = [(0, batch_size - len(batch))] + [(0, 0)] * (rows.ndim - 1)
        outputs.append(np.asarray(function(jnp.asarray(np.pad(batch, padding))))[: len(batch)])
    return np.concatenate(outputs)
