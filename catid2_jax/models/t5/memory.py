"""Projects a vector to tokens, which replace an embedded text."""

import flax.linen as nn
from jaxtyping import Array, Float

from catid2_jax.models.t5.config import T5Config


class MemoryTokens(nn.Module):
    """T5's norm of the vector, then a linear map to S tokens of width E.

    The norm removes a vector's length, so that all vectors start as tokens of unit variance, which
    embedded text has too.
    """

    config: T5Config

    @nn.compact
    def __call__(self, vectors: Float[Array, "B D"]) -> Float[Array, "B S E"]:
        """Computes the tokens of each vector."""
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
