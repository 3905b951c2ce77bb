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

Beyond the paper: further terms of Eq. 8, query_alignment_loss, with which codes know the queries,
and LETTER's two in `ops.letter`; dual_encoder_loss, of the baseline DPR.

A term of Eq. 8 is one function here, one row of `TERMS` and one weight in `LossWeights`.

B, L, K, H, D, Z are those of `catid2_jax.types`; losses are in nats or squared units of the input.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.constraints import (
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ShareBelowOne,
    check_fields,
)
from catid2_jax.ops.info_nce import class_info_nce, instance_info_nce
from catid2_jax.ops.kmeans import even_clusters
from catid2_jax.ops.letter import collaborative_loss, diversity_loss
from catid2_jax.ops.similarity import normalize
from catid2_jax.types import CategoryIds, Codes, Embeddings, Latents, Residuals, Scalar

Negatives = Literal["hard", "global"]
Positives = Literal["all", "one"]
Reduction = Literal["mean", "sum"]


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Weights of Eq. 8's terms beside L_rq, and their options.

    The defaults are those with which each term acts; `LITERAL` has the paper's. A term of weight 0
    is not computed.

    Attributes:
        reconstruction: weight of L_recon; 0 in the full model, where L_Dis replaces it, else 1.
        dispersion: alpha, weight of L_Dis.
        hierarchical_class: beta, weight of L_HCC.
        cluster_scale: gamma, weight of L_CSC.
        query_alignment: weight of the InfoNCE between what products are searched with and their
            codes, which the paper does not have; without query vectors there is no such term.
        collaborative: weight of LETTER's InfoNCE between the codes and a vector of the queries that
            a product is relevant to; at least two queries must have products.
        diversity: weight of LETTER's InfoNCE between codes of a level, by which those of a group
            come together and fill the space evenly.
        code_groups: groups of about as many codes each that `diversity` divides a level into.
        commitment: eta of Eq. 2; the paper is silent, related code has 0.25.
        temperature: tau of both contrastive losses; the paper is silent, related code has 0.1.
        negatives: "hard" takes L_HCC's negatives within the parent category from level 1 on
            (section 3.1), "global" from everywhere (Table 5, "Random Sampling").
        positives: "all" averages an anchor's positives outside the logarithm, "one" draws a
            positive per step.
        norm_floor: share of the root mean square of a level's residuals below which L_HCC does not
            normalise one to unit length; 0 in Eq. 4's letter, where a document that k-means made a
            cluster of its own, with a residual of 0, has a gradient of 1e6 times the others'.
        reduction: reduction of L_rq over dimensions and levels. The literal "sum" of Eq. 2 is Z L
            times the "mean", which shifts alpha, beta and gamma by as much.
    """

    reconstruction: NonNegativeFloat = 0.0
    dispersion: NonNegativeFloat = 0.1
    hierarchical_class: NonNegativeFloat = 1e-2
    cluster_scale: NonNegativeFloat = 0.3
    query_alignment: NonNegativeFloat = 0.3
    collaborative: NonNegativeFloat = 0.0
    diversity: NonNegativeFloat = 0.0
    code_groups: PositiveInt = 10
    commitment: NonNegativeFloat = 0.25
    temperature: PositiveFloat = 0.1
    negatives: Negatives = "hard"
    positives: Positives = "all"
    norm_floor: ShareBelowOne = 0.05
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        check_fields(self)


LITERAL = LossWeights(
    hierarchical_class=1e-4, cluster_scale=1.0, query_alignment=0.0, norm_floor=0.0
)
"""The weights of section 4.1."""

TIGER = LossWeights(
    reconstruction=1.0,
    dispersion=0.0,
    hierarchical_class=0.0,
    cluster_scale=0.0,
    query_alignment=0.0,
)
"""The weights with which Eq. 8 is Eq. 3."""


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
        reduction: reduction over dimensions and levels, which `LossWeights` explains.
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
    norm_floor: float = 0.0,
) -> Scalar:
    """Eq. 4: cosine InfoNCE on the residuals r^l of one level, by category.

    Positives are the other documents of the anchor's node; negatives are those of another node,
    from level 1 on (if "hard") under the same parent. Documents without this level are neither.
    Several positives are averaged outside the logarithm; anchors without a positive or without a
    negative are dropped from the mean, which is 0 if none is left.

    Args:
        residuals: r^l before quantisation, [B, Z].
        categories: node id of the path prefix at each level; -1 where the path is shorter.
        level: l < H, from 0.
        temperature: tau.
        negatives: "hard" or "global".
        key: if given, one positive per anchor is drawn instead of the mean.
        norm_floor: see `LossWeights`.
    """
    nodes = categories[:, level]
    parents = None if level == 0 or negatives == "global" else categories[:, level - 1]
    rows = normalize(residuals, norm_floor)
    loss, anchors = class_info_nce(rows, nodes, parents, temperature, key)
    return jnp.sum(loss) / jnp.maximum(jnp.sum(anchors), 1)


def log_mean_probabilities(log_probabilities: Float[Array, "B K"]) -> Float[Array, " K"]:
    """Computes log p~ of Eq. 5, with p~ the mean of p^l over the batch."""
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


def query_alignment_loss(
    queries: Latents, quantized: Latents, known: Bool[Array, " B"], temperature: float
) -> Scalar:
    """InfoNCE in which what a product is searched with must find its codes among all of the batch.

    The alignment of CQ-SID and LETTER with queries in the place of users; the mean is over the
    products that were searched for.

    Args:
        queries: E(q), q the mean vector of a product's training queries, [B, Z].
        quantized: z^, [B, Z].
        known: whether a product has training queries; `queries` says nothing where it has none.
        temperature: tau.
    """
    losses = instance_info_nce(normalize(queries), normalize(quantized), temperature)
    return jnp.sum(jnp.where(known, losses, 0.0)) / jnp.maximum(jnp.sum(known), 1)


@dataclasses.dataclass(frozen=True)
class TermInputs:
    """The arrays of a step from which the terms of Eq. 8 are computed.

    Attributes:
        embeddings: d, [B, D].
        reconstructions: d^ = D(z^), [B, D].
        residuals: r^l before quantisation, [B, Z] for each level.
        log_probabilities: log p^l, [B, K] for each level.
        quantized: z^, straight-through, [B, Z].
        categories: node id of the path prefix at each of the H category levels; -1 where the path
            is shorter.
        key: random key of the step.
        queries: E(q), [B, Z], with q the mean vector of a document's training queries; None where
            no term asks for it.
        searched: whether a document has training queries, [B]; None with `queries`.
        codebooks: e, [L, K, Z].
        codes: c, [B, L].
        collaborative: vectors of co-relevance, [B, Z]; None where no term asks for them.
        related: whether a document has one, [B]; None with `collaborative`.
    """

    embeddings: Embeddings
    reconstructions: Embeddings
    residuals: Sequence[Latents]
    log_probabilities: Sequence[Float[Array, "B K"]]
    quantized: Latents
    categories: CategoryIds
    key: jax.Array
    queries: Latents | None = None
    searched: Bool[Array, " B"] | None = None
    codebooks: Float[Array, "L K Z"] | None = None
    codes: Codes | None = None
    collaborative: Latents | None = None
    related: Bool[Array, " B"] | None = None


def _reconstruction_term(inputs: TermInputs, weights: LossWeights) -> Scalar:
    return reconstruction_loss(inputs.embeddings, inputs.reconstructions)


def _dispersion_term(inputs: TermInputs, weights: LossWeights) -> Scalar:
    return dispersion_loss(inputs.reconstructions, inputs.embeddings, weights.temperature)


def _hierarchical_class_term(inputs: TermInputs, weights: LossWeights) -> Scalar:
    """Sums L_HCC over the category levels."""

    def of_level(level: int) -> Scalar:
        key = jax.random.fold_in(inputs.key, level) if weights.positives == "one" else None
        return hierarchical_class_constraint_loss(
            inputs.residuals[level],
            inputs.categories,
            level,
            weights.temperature,
            weights.negatives,
            key,
            weights.norm_floor,
        )

    return sum(map(of_level, range(inputs.categories.shape[1])), start=jnp.zeros(()))


def _cluster_scale_term(inputs: TermInputs, weights: LossWeights) -> Scalar:
    """Sums L_CSC over the code levels."""
    return sum(map(cluster_scale_constraint_loss, inputs.log_probabilities), start=jnp.zeros(()))


def _query_alignment_term(inputs: TermInputs, weights: LossWeights) -> Scalar:
    if inputs.queries is None or inputs.searched is None:
        return jnp.zeros(())
    return query_alignment_loss(
        inputs.queries, inputs.quantized, inputs.searched, weights.temperature
    )


def _collaborative_term(inputs: TermInputs, weights: LossWeights) -> Scalar:
    if inputs.collaborative is None or inputs.related is None:
        return jnp.zeros(())
    return collaborative_loss(
        inputs.quantized, inputs.collaborative, inputs.related, weights.temperature
    )


def _diversity_term(inputs: TermInputs, weights: LossWeights) -> Scalar:
    """Averages the diversity over the levels; the groups are found anew and have no gradient."""
    if inputs.codebooks is None or inputs.codes is None:
        return jnp.zeros(())
    still = jax.lax.stop_gradient(inputs.codebooks)
    groups = jax.vmap(lambda codebook: even_clusters(codebook, weights.code_groups))(still)
    return jnp.mean(jax.vmap(diversity_loss, (0, 1, 0))(inputs.codebooks, inputs.codes, groups))


TERMS: Mapping[str, Callable[[TermInputs, LossWeights], Scalar]] = {
    "reconstruction": _reconstruction_term,
    "dispersion": _dispersion_term,
    "hierarchical_class": _hierarchical_class_term,
    "cluster_scale": _cluster_scale_term,
    "query_alignment": _query_alignment_term,
    "collaborative": _collaborative_term,
    "diversity": _diversity_term,
}
"""The function of each term of Eq. 8 beside L_rq, by the name of its weight in `LossWeights`."""

OF_CODEBOOKS = ("diversity",)
"""The terms that move code vectors alone: no gradient of theirs reaches the encoder."""


def dual_encoder_loss(
    queries: Float[Array, "B D"],
    documents: Float[Array, "M D"],
    excluded: Bool[Array, "B M"],
    temperature: float,
) -> tuple[Scalar, Scalar]:
    """InfoNCE of queries against documents (Karpukhin et al., 2020, Eq. 2, of cosines).

    Args:
        queries: unit rows; the positive of query i is document i.
        documents: unit rows, of which those from B on are nobody's positive.
        excluded: the documents that are no negatives of a query, though not its own.
        temperature: divides the cosines.

    Returns:
        (-log softmax at the positive, the share of queries whose positive comes first), means.
    """
    logits = jnp.where(excluded, -jnp.inf, queries @ documents.T / temperature)
    own = jnp.diagonal(logits)
    first = jnp.mean((own >= jnp.max(logits, axis=1)).astype(jnp.float32))
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - own), first


def docid_loss(
    weights: LossWeights, *, residual_quantization: Scalar, **terms: Scalar | float
) -> Scalar:
    """Eq. 8: L_rq + alpha L_Dis + beta sum_l L_HCC^l + gamma sum_l L_CSC^l (+ L_recon).

    Args:
        weights: the weights of the terms.
        residual_quantization: L_rq, whose weight is 1.
        **terms: the terms of `TERMS` by name; those left out are 0. With L_recon alone, of weight
            1, it is Eq. 3.
    """
    weighted = (getattr(weights, name) * value for name, value in terms.items())
    return sum(weighted, start=residual_quantization)


def sequence_loss(
    logits: Float[Array, "B L n"],
    targets: Int[Array, "B L"],
    weights: Float[Array, " B"],
    position_weights: Float[Array, " L"] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    scored: Bool[Array, "B L"] | None = None,
) -> Scalar:
    """Eq. 9: -sum_t log P(y_t | y_<t, q), weighted mean over the pairs of the batch.

    Args:
        logits: of the n tokens that compete at each t: the whole vocabulary, or the codes of the
            level; -inf for one that does not compete there.
        targets: columns of the document's ID tokens y in `logits`.
        weights: weight of each query-document pair, not negative.
        position_weights: weight of each t in the sum; None for 1.
        label_smoothing: share of the target's probability that all tokens that compete get in
            equal parts (Szegedy et al., 2016).
        z_loss: weight of the squared log-normalizer, which keeps that near 0 (Chowdhery et al.,
            2022, section 5).
        scored: the positions that count; None for all. Those after the end of a shorter ID do not.
    """
    log_normalizer = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    if label_smoothing:
        mean = jnp.mean(logits, axis=-1, where=logits > -jnp.inf)
        chosen += label_smoothing * (mean - chosen)
    per_token = log_normalizer - chosen
    if z_loss:
        per_token += z_loss * jnp.square(log_normalizer)
    if position_weights is not None:
        per_token *= position_weights[None]
    if scored is not None:
        per_token = jnp.where(scored, per_token, 0.0)
    per_pair = jnp.sum(per_token, axis=-1)
    return jnp.sum(weights * per_pair) / jnp.maximum(jnp.sum(weights), 1e-9)
