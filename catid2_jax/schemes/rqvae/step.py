"""Makes the training step of stage 1 (Eq. 8), and initialises codebooks by k-means."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from catid2_jax import losses
from catid2_jax.losses import LossWeights
from catid2_jax.models.rqvae import RQVAE, RQVAEOutput
from catid2_jax.ops.mesh import DATA_AXIS, replicate
from catid2_jax.schemes.quantized import residual_kmeans
from catid2_jax.training.loop import Metrics, StepFunction, TrainState
from catid2_jax.training.sharding import data_mesh, place
from catid2_jax.types import Latents, Scalar


@flax.struct.dataclass
class RQVAEData:
    """The corpus or a batch of it.

    Attributes:
        embeddings: standardised embeddings, float [N, D], on the host or on devices.
        categories: ids of the category path's prefixes, int [N, H], on the host or on devices; -1
            where there is no such level.
        queries: standardised mean vector of each document's training queries, float [N, D]; None
            where no term reads them.
        searched: whether a document has training queries, bool [N]; None with `queries`.
        collaborative: each document's vector of co-relevance, float [N, Z]; None where no term
            reads them.
        related: whether a document has one, bool [N]; None with `collaborative`.
    """

    embeddings: Any
    categories: Any
    queries: Any = None
    searched: Any = None
    collaborative: Any = None
    related: Any = None

    def batch(self, indices: Any) -> "RQVAEData":
        """Returns the documents of `indices`."""
        return jax.tree.map(lambda rows: rows[indices], self)


def docid_loss_terms(
    output: RQVAEOutput,
    batch: RQVAEData,
    queries: Latents | None,
    weights: LossWeights,
    key: jax.Array,
    codebooks: Float[Array, "L K Z"] | None = None,
) -> dict[str, Scalar]:
    """Computes the terms of Eq. 8 by the argument names of `losses.docid_loss`.

    Terms of weight 0 are left out. The category levels are those of the batch; L_CSC is over all
    code levels. `queries` is E of the batch's queries, if it has any. `key` draws positives if
    `weights.positives` is "one". `codebooks` are those that quantised; None where no term asks.
    """
    quantization = output.quantization
    inputs = losses.TermInputs(
        embeddings=batch.embeddings,
        reconstructions=output.reconstructions,
        # Unstacked, so that what the quantiser stacked costs nothing, forward or backward: the
        # gradient of a slice would be padded to all levels.
        residuals=jnp.unstack(quantization.residuals, axis=1),
        log_probabilities=jnp.unstack(quantization.log_probabilities, axis=1),
        quantized=quantization.quantized,
        categories=replicate(batch.categories),  # all levels by one message
        queries=queries,
        searched=batch.searched,
        key=key,
        codebooks=codebooks,
        codes=quantization.codes,
        collaborative=batch.collaborative,
        related=batch.related,
    )
    terms = {
        "residual_quantization": losses.residual_quantization_loss(
            quantization.residuals, quantization.selected, weights.commitment, weights.reduction
        )
    }
    for name, term in losses.TERMS.items():
        if getattr(weights, name):
            terms[name] = term(inputs, weights)
    return terms


def forward(
    model: RQVAE,
    params: dict,
    batch: RQVAEData,
    weights: LossWeights,
    dropout_key: jax.Array,
    positives_key: jax.Array,
) -> tuple[RQVAEOutput, dict[str, Scalar]]:
    """Runs the network in training, and computes the terms of its loss."""
    variables, rngs = {"params": params}, {"dropout": dropout_key}
    output: Any = model.apply(variables, batch.embeddings, training=True, rngs=rngs)
    queries: Any = None
    if batch.queries is not None:
        queries = model.apply(variables, batch.queries, True, rngs=rngs, method=RQVAE.encode)
    codebooks = params["quantizer"]["codebooks"]
    return output, docid_loss_terms(output, batch, queries, weights, positives_key, codebooks)


def make_rqvae_step(
    model: RQVAE, optimizer: optax.GradientTransformation, weights: LossWeights, seed: int = 0
) -> StepFunction:
    """Makes the step of stage 1 for the training loop, over batches of `RQVAEData`.

    `seed` seeds dropout and the draw of positives; each step derives its own key.
    """

    def loss_function(params: dict, batch: RQVAEData, key: jax.Array) -> tuple[Scalar, Metrics]:
        dropout_key, positives_key = jax.random.split(key)
        output, terms = forward(model, params, batch, weights, dropout_key, positives_key)
        loss = losses.docid_loss(weights, **terms)
        usage = usage_perplexities(output.quantization.codes, model.config.codebook_size)
        log_probabilities = output.quantization.log_probabilities
        log_means = [
            losses.log_mean_probabilities(log_probabilities[:, level])
            for level in range(model.config.levels)
        ]
        soft = jnp.exp(_entropy(jnp.exp(jnp.stack(log_means))))
        levels = {f"batch_perplexity/level_{i}": value for i, value in enumerate(usage, 1)}
        # A small L_CSC is meaningful only where soft and hard usage agree.
        levels |= {f"soft_perplexity/level_{i}": value for i, value in enumerate(soft, 1)}
        return loss, {"loss": loss, **terms, **levels}

    def step(state: TrainState, batch: RQVAEData) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        gradients, metrics = jax.grad(loss_function, has_aux=True)(state.params, batch, key)
        return state.descend(gradients, optimizer), metrics

    return step


def usage_perplexities(codes: Int[Array, "B L"], codebook_size: int) -> Float[Array, " L"]:
    """Computes the perplexity of each level's code usage; far below K, it shows a collapse."""
    share = jax.vmap(
        lambda column: jnp.zeros(codebook_size).at[column].add(1.0 / len(column)), in_axes=1
    )(codes)
    return jnp.exp(_entropy(share))


def _entropy(shares: Float[Array, "L K"]) -> Float[Array, " L"]:
    return jnp.sum(jax.scipy.special.entr(shares), axis=1)


def initialize_codebooks(params: dict, latents: np.ndarray, key: jax.Array) -> dict:
    """Returns parameters whose codebooks are k-means centroids of the corpus, level by level.

    All devices share the points; the result does not depend on how many they are.

    Args:
        params: parameters of an `RQVAE`.
        latents: z of the whole corpus under `params`, float32 [N, Z].
        key: random key.
    """
    levels, codebook_size, _ = params["quantizer"]["codebooks"].shape
    codebooks = residual_kmeans(latents, levels, codebook_size, key).codebooks
    return {**params, "quantizer": {"codebooks": jnp.asarray(codebooks)}}


def start_at_principal_components(params: dict, embeddings: np.ndarray) -> dict:
    """Returns parameters whose linear paths are the principal components of the corpus.

    Args:
        params: parameters of an `RQVAE` with `linear_path` "pca".
        embeddings: standardised embeddings of the whole corpus, float32 [N, D], of mean 0.
    """
    width, latent_dim = params["encoder_path"]["kernel"].shape
    centred = embeddings - embeddings.mean(axis=0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)  # in rising order
    components = vectors[:, ::-1][:, :latent_dim]
    # Eigenvectors have no sign of their own.
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=0)[None], axis=0)
    components = np.pad(components * np.sign(largest), ((0, 0), (0, max(latent_dim - width, 0))))
    components = components.astype(np.float32)
    paths = {"encoder_path": components, "decoder_path": components.T}
    return params | {name: {"kernel": jnp.asarray(kernel)} for name, kernel in paths.items()}


def in_batches(
    function: Callable[..., jax.Array], rows: np.ndarray, *arguments: Any, batch_size: int = 4096
) -> np.ndarray:
    """Maps `function(batch, *arguments)` over all rows, in batches sharded over all devices.

    The last batch is padded with zeros. A function object is compiled once.
    """
    mesh = data_mesh()
    compiled = jax.jit(function, out_shardings=NamedSharding(mesh, PartitionSpec()))
    arguments = place(arguments, mesh)
    batch_size = -(-min(batch_size, len(rows)) // mesh.size) * mesh.size
    outputs = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        padding = [(0, batch_size - len(batch))] + [(0, 0)] * (rows.ndim - 1)
        sharded = place(np.pad(batch, padding), mesh, PartitionSpec(DATA_AXIS))
        outputs.append(np.asarray(compiled(sharded, *arguments))[: len(batch)])
    return np.concatenate(outputs)
