"""T5's decoder over a pretrained BERT, as the trainer and the search see it."""

import dataclasses

from catid2_jax.models.bert import BertConfig
from catid2_jax.models.bert_t5 import BertT5
from catid2_jax.seq2seq.decoder import T5Decoder


@dataclasses.dataclass(frozen=True)
class BertT5Decoder(T5Decoder):
    """The tokens of an ID as `T5Decoder` has them, generated from the states of WordPiece tokens.

    Attributes:
        encoder: shape of the BERT.
    """

    encoder: BertConfig

    @property
    def network(self) -> BertT5:
        """The Flax module."""
        return BertT5(self.config, self.vocabulary_size, self.encoder)
