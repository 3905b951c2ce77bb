"""The RQ-VAE of stage 1: encoder, residual quantiser, decoder. It computes no loss."""

import dataclasses

import flax.linen as nn
import flax.struct

from catid2_jax.errors import InputError
from catid2_jax.models.mlp import MLP
from catid2_jax.models.residual_quantizer import (
    Quantization,
    ResidualGradient,
    ResidualQuantizer,
)
from catid2_jax.types import Embeddings, Latents


@dataclasses.dataclass(frozen=True)
class RQVAEConfig:
    """Shape of the RQ-VAE; the defaults are the paper's, or its siblings' where it is silent.

    Attributes:
        levels: L, tokens of a document ID.
        codes: K, codes per level.
        category_levels: H, category levels that L_HCC sees; H < L (section 3.1).
        latent_dim: Z.
        hidden_dims: widths between the embedding and the latent; the decoder mirrors them.
        code_temperature: of p^l; 1 in the paper.
        residual_gradient: see `residual_quantizer.quantize`.
    """

    levels: int = 4
    codes: int = 256
    category_levels: int = 3
    latent_dim: int = 32
    hidden_dims: tuple[int, ...] = (2048, 1024, 512, 256, 128, 64)
    code_temperature: float = 1.0
    residual_gradient: ResidualGradient = "stop_codes"

    def __post_init__(self) -> None:
        if not 0 <= self.category_levels < self.levels:
            raise InputError(
                f"category_levels is {self.category_levels} and levels is "
                f"{self.levels}: expected 0 <= H < L, so that the last level can tell documents "
                "of one category apart"
            )
        for name in ("codes", "latent_dim"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.code_temperature <= 0:
            raise InputError(f"code_temperature is {self.code_temperature}: expected more than 0")


@flax.struct.dataclass
class RQVAEOutput:
    """What a forward pass yields: z, all of the quantiser, and d^ = D(z^)."""

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
        self.encoder = MLP((*config.hidden_dims, config.latent_dim))
        self.quantizer = ResidualQuantizer(
            config.levels, config.codes, config.code_temperature, config.residual_gradient
        )
        self.decoder = MLP((*reversed(config.hidden_dims), self.embedding_dim))

    def __call__(self, embeddings: Embeddings) -> RQVAEOutput:
        """Encodes, quantises and decodes a batch."""
        latents = self.encoder(embeddings)
        quantization = self.quantizer(latents)
        return RQVAEOutput(latents, quantization, self.decoder(quantization.quantized))

    def encode(self, embeddings: Embeddings) -> Latents:
        """The latents z = E(d) alone."""
        return self.encoder(embeddings)
