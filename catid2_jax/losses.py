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

from catid2_jax.errors import InputError
from catid2_jax.ops.info_nce import class_info_nce, instance_info_nce
from catid2_jax.ops.similarity import normalize
from catid2_jax.types import Embeddings, Latents, Residuals, Scalar

Negatives = Literal["hard", "global"]
Positives = Literal["all", "one"]
Reduction = Literal["mean", "sum"]


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
        positives: "all" of an anchor's are averaged outside the logarithm; "one" is drawn per step.
        reduction: of L_rq over dimensions and levels; the literal "sum" of Eq. 2 is Z L times the
            "mean", and would shift alpha, beta and gamma by as much.
    """

    reconstruction: float = 0.0
    dispersion: float = 0.1
    hierarchical_class: float = 1e-4
    cluster_scale: float = 1.0
    commitment: float = 0.25
    temperature: float = 0.1
    negatives: Negatives = "hard"
    positives: Positives = "all"
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise InputError(f"temperature is {self.temperature}: expected more than 0")


TIGER = LossWeights(reconstruction=1.0, dispersion=0.0, hierarchical_class=0.0, cluster_scale=0.0)
"""The weights that leave Eq. 3 of Eq. 8."""


def reconstruction_loss(embeddings: Embeddings, reconstructions: Embeddings) -> Scalar:
    """Eq. 1: ||d - D(z^)||^2, as a mean over dimensions and documents."""
    return jnp.mean(jnp.square(embeddings - reconstructions))


def residual_quantization_loss(
    residuals: Residuals, selected: Residuals, commitment: float, reduction: Reduction = "mean"
) -> Scalar:
    """Eq. 2: ||sg[r_l] - e||^2 + eta ||r_l - sg[e]||^2, as a mean over documents.

    Args:
        residuals: r_l before quantisation, [B, L, Z].
        selected: the chosen code vectors e_{c^l}, [B, L, Z].
        commitment: eta.
        reduction: over dimensions and levels; see `LossWeights`.
    """
    codebook = jnp.mean(jnp.square(jax.lax.stop_gradient(residuals) - selected))
    encoder = jnp.mean(jnp.square(residuals - jax.lax.stop_gradient(selected)))
    terms = residuals.shape[1] * residuals.shape[2] if reduction == "sum" else 1
    return terms * (codebook + commitment * encoder)


def rqvae_loss(reconstruction: Scalar | float, residual_quantization: Scalar) -> Scalar:
    """Eq. 3: L_RQ-VAE = L_recon + L_rq, the whole loss of TIGER."""
    return reconstruction + residual_quantization


def hierarchical_class_constraint_loss(
    residuals: Latents,
    categories: Int[Array, "B H"],
    level: int,
    temperature: float,
    negatives: Negatives = "hard",
    key: jax.Array | None = None,
) -> Scalar:
    """Eq. 4: cosine InfoNCE on the residuals r^l of one level, by category.

    Positives are the documents of the same node, without the anchor itself; negatives those of
    another node, from level 1 on (if "hard") under the same parent. Documents without this level
    are in neither. Several positives are averaged outside the logarithm; anchors without a positive
    or without a negative are dropped from the mean, which is 0 if none is left.

    Args:
        residuals: r^l before quantisation, [B, Z].
        categories: node id of the path prefix at each level; -1 where the path is shorter.
        level: l < H, from 0.
        temperature: tau.
        negatives: "hard" or "global".
        key: where given, one positive per anchor is drawn instead of the mean.
    """
    nodes = categories[:, level]
    parents = None if level == 0 or negatives == "global" else categories[:, level - 1]
    loss, anchors = class_info_nce(normalize(residuals), nodes, parents, temperature, key)
    return jnp.sum(loss) / jnp.maximum(jnp.sum(anchors), 1)


def log_mean_probabilities(log_probabilities: Float[Array, "B K"]) -> Float[Array, " K"]:
    """Log p~ of Eq. 5, p~ being the mean of p^l over the batch."""
    return jax.nn.logsumexp(log_probabilities, axis=0) - jnp.log(len(log_probabilities))


def cluster_scale_constraint_loss(log_probabilities: Float[Array, "B K"]) -> Scalar:
    """Eq. 5: KL(p~ || u) + KL(u || p~), p~ the batch mean of p^l and u uniform over the K codes.

    The two sum to sum_k (p~_k - 1/K) (log p~_k - log 1/K), which needs log p~ only: taken as a
    log-sum-exp over the batch, so that a code far from every document does not underflow. (The
    terms log 1/K sum to zero; they keep float32 exact where p~ is nearly uniform.)

    Args:
        log_probabilities: log p^l of one level.
    """
    codes = log_probabilities.shape[1]
    log_mean = log_mean_probabilities(log_probabilities)
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
    candidates = normalize(embeddings).astype(reconstructions.dtype)
    return jnp.mean(instance_info_nce(normalize(reconstructions), candidates, temperature))


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
    logits: Float[Array, "B L V"],
    targets: Int[Array, "B L"],
    weights: Float[Array, " B"],
    position_weights: Float[Array, " L"] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Scalar:
    """Eq. 9: -sum_t log P(y_t | y_<t, q), weighted mean over the pairs of the batch.

    Args:
        logits: over the whole vocabulary.
        targets: vocabulary ids y of the document's ID tokens.
        weights: one per query-document pair, not negative.
        position_weights: of each t in the sum; 1 if None.
        label_smoothing: share of the target's probability that all V tokens get in equal parts
            (Szegedy et al., 2016).
        z_loss: weight of the squared log-normalizer, which is to stay near 0 (Chowdhery et al.,
            2022, section 5).
    """
    log_normalizer = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    if label_smoothing:
        chosen += label_smoothing * (jnp.mean(logits, axis=-1) - chosen)
    per_token = log_normalizer - chosen
    if z_loss:
        per_token += z_loss * jnp.square(log_normalizer)
    if position_weights is not None:
        per_token *= position_weights[None]
    per_pair = jnp.sum(per_token, axis=-1)
    return jnp.sum(weights * per_pair) / jnp.maximum(jnp.sum(weights), 1e-9)
