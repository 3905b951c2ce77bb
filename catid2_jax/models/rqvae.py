"""The RQ-VAE of stage 1: encoder, residual quantiser, decoder. It computes no loss."""

import dataclasses
from typing import Annotated, Any, Literal

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from catid2_jax.constraints import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ShareBelowOne,
    at_least,
    at_most,
    check_fields,
    one_of,
)
from catid2_jax.errors import InputError
from catid2_jax.models.mlp import ACTIVATIONS, KERNELS, MLP
from catid2_jax.models.residual_quantizer import (
    CodeDistance,
    Quantization,
    ResidualGradient,
    ResidualQuantizer,
    TemperatureUnit,
)
from catid2_jax.types import CategoryIdentity, Embeddings, Latents


@dataclasses.dataclass(frozen=True)
class RQVAEConfig:
    """Shape of the RQ-VAE, and how it starts.

    The defaults are those that work (docs/results/ids.md); `ablations.LITERAL` has the paper's.

    Attributes:
        levels: L, tokens of a document ID.
        codebook_size: K, codes per level.
        category_levels: H, category levels that L_HCC sees; H < L (section 3.1).
        latent_dim: Z, width of the latent.
        hidden_dims: widths between the embedding and the latent; the decoder mirrors them.
        activation: name of the activation between the layers of E and D.
        kernel: name of the initialiser of E's and D's kernels; biases start at zero.
        dropout_rate: share of E's and D's hidden units that are dropped.
        dtype: type of the matrix products of E, D and L_Dis; parameters, sums and everything about
            codes stay in float32.
        codebook_start: "kmeans" over the whole corpus, level by level, or "random" (normal, small).
        code_distance: distance in p^l, "euclidean" in the paper (section 3), or "squared".
        code_temperature: temperature of p^l, 1 in the paper.
        code_temperature_unit: unit of the temperature: "one", or "level", the spread of the level's
            own distances, with which L_CSC sees what codes are used at any scale.
        linear_path: "pca" adds a linear map beside each of the two MLPs, E(d) = dP + MLP(d) and
            D(z) = zQ + MLP(z). P starts as the Z principal components of the corpus, Q as its
            transpose and the last layers of the MLPs at zero, so that training starts where
            residual k-means of the principal components ends. "none" has the MLPs alone.
        residual_gradient: how gradients pass between levels, see `residual_quantizer.quantize`.
        code_shrinkage: alpha of the first levels, fewer than L: a residual divided by alpha is what
            a level's codes stand for, so that the share that is left tells the next levels what
            this one has said (HierGR has 1.1 and 1.05); empty for 1 at all levels.
        sinkhorn_epsilon: if more than 0, training takes the last level's codes from a transport
            plan that uses all evenly (0.003 in LC-Rec); the paper balances afterwards only.
        standardize: whether embeddings get unit variance per dimension first; without it p^l is
            nearly uniform and the codes are free to collapse.
        reseed_dead_codes: whether each evaluation moves codes that no document uses onto documents.
        category_identity: what makes two categories the same to L_HCC: the whole "path" down to
            them, or their "name" and level (the same name recurs under different parents).
        masked_categories: share of the categories of level H, drawn at random, that L_HCC does not
            see (Table 5's "2&3 level" has one half).
        held_out: share of the documents, 1 to 4,096 of them, that are not trained on: evaluations
            measure how alike they and their reconstructions are, as `reconstruction_cosine`; 0 to
            train on all and measure it there.
    """

    levels: PositiveInt = 4
    codebook_size: PositiveInt = 256
    category_levels: NonNegativeInt = 3
    latent_dim: PositiveInt = 64
    hidden_dims: tuple[PositiveInt, ...] = (512, 256, 128)
    activation: Annotated[str, one_of(ACTIVATIONS)] = "relu"
    kernel: Annotated[str, one_of(KERNELS)] = "xavier_normal"
    dropout_rate: ShareBelowOne = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    codebook_start: Literal["kmeans", "random"] = "kmeans"
    code_distance: CodeDistance = "euclidean"
    code_temperature: PositiveFloat = 0.3
    code_temperature_unit: TemperatureUnit = "level"
    linear_path: Literal["none", "pca"] = "pca"
    residual_gradient: ResidualGradient = "stop_codes"
    code_shrinkage: tuple[PositiveFloat, ...] = ()
    sinkhorn_epsilon: NonNegativeFloat = 0.0
    standardize: bool = True
    reseed_dead_codes: bool = False
    category_identity: CategoryIdentity = "path"
    masked_categories: Annotated[float, at_least(0), at_most(1)] = 0.0
    held_out: ShareBelowOne = 0.02

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.category_levels < self.levels:
            raise InputError(
                "category_levels",
                f"{self.category_levels} with {self.levels} levels",
                "category_levels < levels, so that the last level can tell documents of one "
                "category apart",
            )
        if len(self.code_shrinkage) >= self.levels:
            raise InputError(
                "code_shrinkage",
                f"{self.code_shrinkage} with {self.levels} levels",
                "fewer than levels, so that the last one leaves nothing",
            )


@flax.struct.dataclass
class RQVAEOutput:
    """The result of a forward pass: z, every intermediate of the quantiser, and d^ = D(z^)."""

    latents: Latents
    quantization: Quantization
    reconstructions: Embeddings


class RQVAE(nn.Module):
    """Encoder E, residual quantiser and decoder D over embeddings of width `embedding_dim`."""

    config: RQVAEConfig
    embedding_dim: int

    def setup(self) -> None:
        """Builds E, the quantiser and D."""
        config = self.config
        options: dict[str, Any] = {
            "activation": config.activation,
            "kernel": config.kernel,
            "dropout_rate": config.dropout_rate,
            "dtype": config.dtype,
        }
        if config.linear_path == "pca":
            options["starts_at_zero"] = True
            self.encoder_path = nn.Dense(config.latent_dim, use_bias=False)
            self.decoder_path = nn.Dense(self.embedding_dim, use_bias=False)
        self.encoder = MLP((*config.hidden_dims, config.latent_dim), **options)
        self.quantizer = ResidualQuantizer(
            config.levels,
            config.codebook_size,
            config.code_temperature,
            config.residual_gradient,
            config.code_distance,
            config.sinkhorn_epsilon,
            config.code_temperature_unit,
            config.code_shrinkage,
        )
        self.decoder = MLP((*reversed(config.hidden_dims), self.embedding_dim), **options)

    def __call__(self, embeddings: Embeddings, training: bool = False) -> RQVAEOutput:
        """Encodes, quantises and decodes a batch; `training` turns on dropout and Sinkhorn codes.

        Reconstructions have the configured dtype, everything else is float32.
        """
        latents = self.encode(embeddings, training)
        quantization = self.quantizer(latents, training)
        reconstructions = self.decode(quantization.quantized, training)
        # The products accumulate in float32; those of L_Dis shall run in the configured type.
        narrow = reconstructions.astype(self.config.dtype)
        return RQVAEOutput(latents, quantization, narrow)

    def encode(self, embeddings: Embeddings, training: bool = False) -> Latents:
        """Computes the latents z = E(d) alone, float32."""
        latents = self.encoder(embeddings, training).astype(jnp.float32)
        if self.config.linear_path == "pca":
            latents += self.encoder_path(embeddings)
        return latents

    def decode(self, quantized: Latents, training: bool = False) -> Embeddings:
        """Computes the reconstructions d^ = D(z^)."""
        reconstructions = self.decoder(quantized, training)
        if self.config.linear_path == "pca":
            reconstructions += self.decoder_path(quantized)
        return reconstructions
