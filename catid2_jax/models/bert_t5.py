"""T5's decoder over the token states of a BERT, which stands in the place of T5's encoder."""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from catid2_jax.models.bert import Bert, BertConfig
from catid2_jax.models.t5.layers import dense
from catid2_jax.models.t5.network import Decoder, Source, Transformer
from catid2_jax.models.t5.packing import Packing

BERT = "bert"
"""Name of the encoder's subtree of the parameters."""


class BertT5(Transformer):
    """A `Transformer` whose sources are WordPiece tokens; only the decoder embeds its V tokens.

    Attributes:
        encoder_config: shape of the encoder; its states are projected to the decoder's width if
            theirs is another. Of `config`, `num_encoder_layers` and `memory_tokens` are not used,
            and `dropout_rate` is the decoder's alone.
    """

    encoder_config: BertConfig

    def setup(self) -> None:
        """Builds the encoder, the projection, the embedding of the decoder's tokens, its stack."""
        config = self.config
        self.bert = Bert(self.encoder_config, config.dtype, config.remat)
        if self.encoder_config.hidden_size != config.emb_dim:
            self.projection = dense(
                config.emb_dim,
                dtype=config.dtype,
                kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "normal"),
            )
        self.token_embedder = nn.Embed(
            self.vocabulary_size,
            config.emb_dim,
            dtype=config.dtype,
            embedding_init=nn.initializers.normal(1.0),
        )
        self.decoder = Decoder(config, self.vocabulary_size)

    def _encode(
        self,
        encoder_tokens: Source,
        encoder_mask: Bool[Array, "B S"],
        deterministic: bool,
        packing: Packing | None,
    ) -> Float[Array, "*batch E"]:
        states = self.bert(encoder_tokens, encoder_mask, deterministic, packing)
        same_width = self.encoder_config.hidden_size == self.config.emb_dim
        return states if same_width else self.projection(states)
