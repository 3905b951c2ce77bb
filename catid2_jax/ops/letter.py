"""The contrastive losses of LETTER (Wang et al., 2024) between codes, products and co-relevance."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.ops.similarity import normalize
from catid2_jax.types import Latents, Scalar

_NEVER = -1e9  # finite, so that a row of them is no NaN


def collaborative_loss(
    quantized: Latents, collaborative: Latents, known: Bool[Array, " B"], temperature: float
) -> Scalar:
    """LETTER's collaborative term: codes must find their product's vector of co-relevance.

    The InfoNCE of Wang et al. (2024) among the products of the batch that have such
    a vector, of cosines where LETTER has inner products. 0 if none has one.

    Args:
        quantized: z^, [B, Z].
        collaborative: h, [B, Z].
        known: whether a product has a vector; `collaborative` says nothing where it has none.
        temperature: tau.
    """
    cosines = normalize(quantized) @ normalize(collaborative).T / temperature
    log_p = jax.nn.log_softmax(jnp.where(known[None], cosines, _NEVER), axis=1)
    own = jnp.where(known, jnp.diag(log_p), 0.0)
    return -jnp.sum(own) / jnp.maximum(jnp.sum(known), 1)


def diversity_loss(
    codebook: Float[Array, "K Z"], codes: Int[Array, " B"], groups: Int[Array, " K"]
) -> Scalar:
    """LETTER's diversity term of a level: a code must find those of its group among all others.

    The InfoNCE of Wang et al. (2024) of inner products, as a mean over the documents
    and, where LETTER draws one, over the other codes of the group: the mean of what it draws. The
    documents of a code that is alone in its group are dropped; 0 if none is left.

    Args:
        codebook: e.
        codes: c^l of the documents.
        groups: group of each code.
    """
    others = ~jnp.eye(len(codebook), dtype=bool)
    positives = (groups[:, None] == groups[None]) & others
    log_p = jax.nn.log_softmax(codebook @ codebook.T, axis=1, where=others)
    found = jnp.sum(jnp.where(positives, log_p, 0.0), axis=1)
    counts = jnp.sum(positives, axis=1)
    used = jnp.zeros(len(codebook)).at[codes].add(1.0) * (counts > 0)
    return -jnp.sum(used * found / jnp.maximum(counts, 1)) / jnp.maximum(jnp.sum(used), 1)
