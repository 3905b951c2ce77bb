"""A decoder of one's own: codes compete within their level, whatever the objective says."""

import dataclasses

import jax.numpy as jnp

from catid2_jax.seq2seq.decoder import T5Decoder


@dataclasses.dataclass(frozen=True)
class MyDecoder(T5Decoder):
    """T5 that gives no probability to tokens of another level; all IDs have the same length."""

    def logits(self, params, sources, targets, *training, normalize_over="full", ends=False):
        settings = {"normalize_over": normalize_over, "ends": ends}
        logits = super().logits(params, sources, targets, *training, **settings)
        if normalize_over == "level":
            return logits
        level_of_token = (jnp.arange(logits.shape[-1]) - self.first_id_token) // self.codebook_size
        own = level_of_token[None] == jnp.arange(self.levels)[:, None]
        return jnp.where(own[None], logits, -1e9)

    def start(self, params, sources, normalize_over, ends=False):
        return super().start(params, sources, "level", ends)
