"""A Transformer whose output weights depend on the query and the prefix, after NCI.

NCI (Wang et al., 2022, "prefix-aware weight-adaptive decoder") has at position t

    p(r_t | query, r_<t) = softmax(h_t W~_t),    W~_t = AdaptiveDecoder(query, r_<t) W,

with the state h_t [E] and the output weights W [E, V]. Its adaptive decoder gives a whole matrix
[E, E] for each prefix; this one gives the identity and a matrix of rank R, I + left_t right_t^T, so
that hundreds of beams fit into memory.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.models.bert_t5 import BertT5
from catid2_jax.models.t5.layers import dense
from catid2_jax.models.t5.network import Cache, Decoder, Source, Transformer, empty_cache
from catid2_jax.models.t5.packing import make_packing


class PrefixAwareTransformer(Transformer):
    """A `Transformer` with a second stack of decoder layers, which adapts the output weights.

    It starts as a `Transformer`: `right` is zero then. The caches and the cross-attention's keys
    and values are those of the decoder's layers, then of the adaptor's.
    """

    def setup(self) -> None:
        """Builds the Transformer, the adaptor and what turns its states into matrices."""
        super().setup()
        config = self.config
        adaptor = dataclasses.replace(config, num_decoder_layers=config.adaptor_layers)
        self.adaptor = Decoder(adaptor, self.vocabulary_size)
        size = config.emb_dim * config.adaptor_rank
        scaled = nn.initializers.variance_scaling(1.0 / config.emb_dim, "fan_in", "normal")
        self.left = dense(size, dtype=config.dtype, kernel_init=scaled)
        self.right = dense(size, dtype=config.dtype, kernel_init=nn.initializers.zeros)

    def decode(
        self,
        encoder_tokens: Source,
        encoder_mask: Bool[Array, "B S"],
        decoder_input_tokens: Int[Array, "B T"],
        deterministic: bool = True,
        packed_tokens: int = 0,
    ) -> Float[Array, "B T E"]:
        """Decodes all positions at once; see `Transformer.decode`."""
        packing = make_packing(encoder_mask, packed_tokens) if packed_tokens else None
        encoded = self._encode(encoder_tokens, encoder_mask, deterministic, packing)
        x = self.token_embedder(decoder_input_tokens)
        states, prefixes = (
            stack(x, stack.cross_keys_values(encoded, packing), encoder_mask, deterministic)
            for stack in (self.decoder, self.adaptor)
        )
        return self._adapt(states, prefixes)

    @nn.nowrap
    def empty_cache(self, batch_size: int) -> Cache:
        """Returns the cache of both stacks before the first token."""
        layers = self.config.num_decoder_layers + self.config.adaptor_layers
        return empty_cache(dataclasses.replace(self.config, num_decoder_layers=layers), batch_size)

    def start_decoding(self, encoded: Float[Array, "B S E"]) -> Cache:
        """Computes the cross-attention keys and values of both stacks, [B, S, H, Dh] each."""
        stacks = (self.decoder, self.adaptor)
        return sum((stack.cross_keys_values(encoded, None) for stack in stacks), start=())

    def decode_step(
        self,
        tokens: Int[Array, "B M"],
        cross: Cache,
        encoder_mask: Bool[Array, "B S"],
        cache: Cache,
    ) -> tuple[Float[Array, "B M E"], Cache]:
        """Decodes one position of M beams; see `Transformer.decode_step`."""
        x, layers = self.token_embedder(tokens), self.config.num_decoder_layers
        states, past = self.decoder.step(x, cross[:layers], encoder_mask, cache[:layers])
        prefixes, rest = self.adaptor.step(x, cross[layers:], encoder_mask, cache[layers:])
        return self._adapt(states, prefixes), (*past, *rest)

    def _adapt(
        self, states: Float[Array, "B Q E"], prefixes: Float[Array, "B Q E"]
    ) -> Float[Array, "B Q E"]:
        """Computes h (I + left right^T), of which W then makes the logits h W~."""
        shape = (*states.shape, self.config.adaptor_rank)
        left, right = (side(prefixes).reshape(shape) for side in (self.left, self.right))
        inner = jnp.einsum("bqe,bqer->bqr", states, left)
        return states + jnp.einsum("bqr,bqer->bqe", inner, right)


class PrefixAwareBertT5(PrefixAwareTransformer, BertT5):
    """The same over the token states of a BERT."""
