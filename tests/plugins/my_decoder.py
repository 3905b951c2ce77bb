"""A decoder of one's own: codes compete within their level in training as in the search."""

import dataclasses

import jax.numpy as jnp

from catid2_jax.seq2seq.decoder import T5Decoder


@dataclasses.dataclass(frozen=True)
class MyDecoder(T5Decoder):
    """T5 that gives no probability to tokens of another level; all IDs have the same length."""

    def logits(self, params, sources, targets, *training, **settings):
        logits = super().logits(params, sources, targets, *training, **settings)
        level_of_token = (jnp.arange(logits.shape[-1]) - self.first_id_token) // self.codebook_size
        own = level_of_token[None] == jnp.arange(self.levels)[:, None]
        return jnp.where(own[None], logits, -1e9)

    def start(self, params, sources, normalize_over, ends=False):
        return super().start(params, sources, "level", ends)
