"""A vector in the place of a text: projected to tokens for the encoder and the decoder."""

import flax.linen as nn
from jaxtyping import Array, Float

from catid2_jax.models.t5.config import T5Config


class MemoryTokens(nn.Module):
    """T5's norm of the vector, then a linear map to S tokens of width E.

    The norm takes a vector's length away, so that unit vectors and others start alike: tokens of
    unit variance, as embedded text has.
    """

    config: T5Config

    @nn.compact
    def __call__(self, vectors: Float[Array, "B D"]) -> Float[Array, "B S E"]:
        """The tokens of each vector."""
        config = self.config
        x = nn.RMSNorm(epsilon=1e-12, use_scale=False, dtype=config.dtype, name="norm")(vectors)
        x = nn.Dense(
            config.memory_tokens * config.emb_dim,
            use_bias=False,
            dtype=config.dtype,
            kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "normal"),
            name="projection",
        )(x)
        return x.reshape(-1, config.memory_tokens, config.emb_dim)
