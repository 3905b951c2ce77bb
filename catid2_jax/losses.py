"""Every equation of the paper, one pure function each, in the paper's order.

    Eq.  function                               used by
    1    reconstruction_loss                    TIGER, Table 3's rows (0)-(3)
    2    residual_quantization_loss             all
    3    rqvae_loss                             TIGER
    4    hierarchical_class_constraint_loss     CAT-ID2, levels l < H
    5    cluster_scale_constraint_loss          CAT-ID2, all levels
    6    self_dispersion_loss                   motivation only
    7    dispersion_loss                        CAT-ID2
    8    docid_loss                             stage 1
    9    sequence_loss                          stage 2

B, L, K, H, D, Z are those of `catid2_jax.types`; losses are in nats or squared units of the input.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from catid2_jax.ops.info_nce import masked_info_nce
from catid2_jax.ops.similarity import cosine_similarity
from catid2_jax.types import Embeddings, Latents, PairMask, Residuals, Scalar

Negatives = Literal["hard", "global"]


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Weights of Eq. 8's terms beside L_rq, and what the terms need; the defaults are the paper's.

    Attributes:
        reconstruction: of L_recon; 0 in the full model, where L_Dis replaces it, else 1.
        dispersion: alpha.
        hierarchical_class: beta.
        cluster_scale: gamma.
        commitment: eta of Eq. 2; the paper is silent, sibling code has 0.25.
        temperature: tau of both contrastive losses; the paper is silent, sibling code has 0.1.
        negatives: "hard" takes them within the parent category from level 1 on (section 3.1),
            "global" from everywhere (Table 5, "Random Sampling").
    """

    reconstruction: float = 0.0
    dispersion: float = 0.1
    hierarchical_class: float = 1e-4
    cluster_scale: float = 1.0
    commitment: float = 0.25
    temperature: float = 0.1
    negatives: Negatives = "hard"


def reconstruction_loss(embeddings: Embeddings, reconstructions: Embeddings) -> Scalar:
    """Eq. 1: ||d - D(z^)||^2, as a mean over dimensions and documents."""
    return jnp.mean(jnp.square(embeddings - reconstructions))


def residual_quantization_loss(
    residuals: Residuals, selected: Residuals, commitment: float
) -> Scalar:
    """Eq. 2: ||sg[r_l] - e||^2 + eta ||r_l - sg[e]||^2, as a mean over dimensions and levels.

    A mean, not the literal sum, so that alpha, beta and gamma keep their meaning for any L and Z.

    Args:
        residuals: r_l before quantisation, [B, L, Z].
        selected: the chosen code vectors e_{c^l}, [B, L, Z].
        commitment: eta.
    """
    codebook = jnp.mean(jnp.square(jax.lax.stop_gradient(residuals) - selected))
    encoder = jnp.mean(jnp.square(residuals - jax.lax.stop_gradient(selected)))
    return codebook + commitment * encoder


def rqvae_loss(reconstruction: Scalar | float, residual_quantization: Scalar) -> Scalar:
    """Eq. 3: L_RQ-VAE = L_recon + L_rq, the whole loss of TIGER."""
    return reconstruction + residual_quantization


def class_pairs(
    categories: Int[Array, "B H"], level: int, negatives: Negatives
) -> tuple[PairMask, PairMask]:
    """Who is whose positive and negative at a category level (section 3.1).

    Args:
        categories: node id of the path prefix at each level; -1 where the path is shorter.
        level: l, from 0.
        negatives: "hard" or "global", see `LossWeights`.

    Returns:
        (positives, negatives), [B, B] each: same node without the anchor itself; another node,
        from level 1 on (if "hard") under the same parent. Documents without this level are in
        neither.
    """
    node = categories[:, level]
    present = (node >= 0)[:, None] & (node >= 0)[None, :]
    same = node[:, None] == node[None, :]
    different = ~same & present
    if negatives == "hard" and level > 0:
        parent = categories[:, level - 1]
        different &= parent[:, None] == parent[None, :]
    return same & present & ~jnp.eye(node.shape[0], dtype=bool), different


def hierarchical_class_constraint_loss(
    residuals: Latents,
    categories: Int[Array, "B H"],
    level: int,
    temperature: float,
    negatives: Negatives = "hard",
) -> Scalar:
    """Eq. 4: cosine InfoNCE on the residuals r^l of one level, by category.

    Several positives are averaged outside the logarithm; anchors without a positive or without
    a negative are dropped from the mean.

    Args:
        residuals: r^l before quantisation, [B, Z].
        categories: [B, H], see `class_pairs`.
        level: l < H.
        temperature: tau.
        negatives: "hard" or "global".
    """
    positive_pairs, negative_pairs = class_pairs(categories, level, negatives)
    logits = cosine_similarity(residuals, residuals) / temperature
    return masked_info_nce(logits, positive_pairs, negative_pairs)


def cluster_scale_constraint_loss(log_probabilities: Float[Array, "B K"]) -> Scalar:
    """Eq. 5: KL(p~ || u) + KL(u || p~), p~ the batch mean of p^l and u uniform over the K codes.

    The two sum to sum_k (p~_k - 1/K) (log p~_k - log 1/K), which needs log p~ only: taken as a
    log-sum-exp over the batch, so that a code far from every document does not underflow. (The
    terms log 1/K sum to zero; they keep float32 exact where p~ is nearly uniform.)

    Args:
        log_probabilities: log p^l of one level.
    """
    batch, codes = log_probabilities.shape
    log_mean = jax.nn.logsumexp(log_probabilities, axis=0) - jnp.log(batch)
    return jnp.sum((jnp.exp(log_mean) - 1.0 / codes) * (log_mean + jnp.log(codes)))


def self_dispersion_loss(reconstructions: Embeddings, temperature: float) -> Scalar:
    """Eq. 6: InfoNCE of each reconstruction with itself against all; only the motivation."""
    return dispersion_loss(reconstructions, reconstructions, temperature)


def dispersion_loss(
    reconstructions: Embeddings, embeddings: Embeddings, temperature: float
) -> Scalar:
    """Eq. 7: each reconstruction must find its own embedding among all of the batch.

    Args:
        reconstructions: d^_i = D(z^_i), [B, D].
        embeddings: d_j, [B, D].
        temperature: tau.
    """
    logits = cosine_similarity(reconstructions, embeddings) / temperature
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits))


def docid_loss(
    weights: LossWeights,
    *,
    residual_quantization: Scalar,
    reconstruction: Scalar | float = 0.0,
    dispersion: Scalar | float = 0.0,
    hierarchical_class: Scalar | float = 0.0,
    cluster_scale: Scalar | float = 0.0,
) -> Scalar:
    """Eq. 8: L_rq + alpha L_Dis + beta sum_l L_HCC^l + gamma sum_l L_CSC^l (+ L_recon).

    `hierarchical_class` and `cluster_scale` are the sums over levels. With L_recon alone it is
    Eq. 3.
    """
    return (
        rqvae_loss(weights.reconstruction * reconstruction, residual_quantization)
        + weights.dispersion * dispersion
        + weights.hierarchical_class * hierarchical_class
        + weights.cluster_scale * cluster_scale
    )


def sequence_loss(
    logits: Float[Array, "B L V"], targets: Int[Array, "B L"], weights: Float[Array, " B"]
) -> Scalar:
    """Eq. 9: -sum_t log P(y_t | y_<t, q), weighted mean over the pairs of the batch.

    Args:
        logits: over the whole vocabulary.
        targets: vocabulary ids y of the document's ID tokens.
        weights: one per query-document pair, not negative.
    """
    log_normalizer = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    per_pair = jnp.sum(log_normalizer - chosen, axis=-1)
    return jnp.sum(weights * per_pair) / jnp.maximum(jnp.sum(weights), 1e-9)
