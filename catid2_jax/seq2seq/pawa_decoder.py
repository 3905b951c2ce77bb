"""NCI's prefix-aware weight-adaptive decoder, as the trainer and the search see it."""

import dataclasses

from catid2_jax.models.bert import BertConfig
from catid2_jax.models.pawa import PrefixAwareBertT5, PrefixAwareTransformer
from catid2_jax.seq2seq.decoder import T5Decoder


@dataclasses.dataclass(frozen=True)
class PawaDecoder(T5Decoder):
    """The tokens of an ID as `T5Decoder` has them, with output weights for each query and prefix.

    Attributes:
        encoder: shape of the BERT that stands in the place of T5's encoder; None for T5's own.
    """

    encoder: BertConfig | None = None

    @property
    def network(self) -> PrefixAwareTransformer:
        """The Flax module."""
        if self.encoder is None:
            return PrefixAwareTransformer(self.config, self.vocabulary_size)
        return PrefixAwareBertT5(self.config, self.vocabulary_size, self.encoder)
