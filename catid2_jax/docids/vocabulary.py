"""The vocabulary of stage 2: SentencePiece text, then L x K ID tokens.

Token of level l and code c has the id `first_id_token + l * K + c`; text ids are SentencePiece's
own. Rows of the embedding are rounded up to a multiple of 128.
"""

import io
import os
import pathlib
from collections.abc import Iterable

import numpy as np
import sentencepiece

from catid2_jax.errors import InputError

PAD = 0
"""Padding, and the first input of the decoder, as in T5."""


class Vocabulary:
    """Text and ID tokens in one range of ids.

    Attributes:
        levels: L.
        codes: K.
        first_id_token: id of level 0's code 0: pieces plus `extra_ids`.
        rows: ids in use, rounded up to a multiple of 128.
    """

    def __init__(
        self, path: str | os.PathLike[str], levels: int, codes: int, extra_ids: int = 0
    ) -> None:
        """Loads a SentencePiece model.

        Args:
            path: the model; its piece 0 must be the padding, as in T5's.
            levels: L.
            codes: K.
            extra_ids: ids kept free after the pieces (T5: 100).

        Raises:
            InputError: no such file, not a SentencePiece model, or one without padding at 0.
        """
        try:
            content = pathlib.Path(path).read_bytes()
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except RuntimeError as error:
            raise InputError(f"{path}: found no SentencePiece model, expected one") from error
        if self._processor.pad_id() != PAD:
            raise InputError(
                f"{path}: found padding id {self._processor.pad_id()}, expected {PAD} as in T5"
            )
        self.levels, self.codes = levels, codes
        self.first_id_token = self._processor.get_piece_size() + extra_ids
        self.rows = -(-(self.first_id_token + levels * codes) // 128) * 128

    def encode(self, texts: list[str], length: int) -> np.ndarray:
        """Texts as int32 [len(texts), length]: pieces and the end-of-sequence id, then padding.

        A longer text is cut and still ends with the end-of-sequence id.
        """
        end = self._processor.eos_id()
        tokens = np.full((len(texts), length), PAD, np.int32)
        for row, pieces in enumerate(self._processor.encode(texts)):
            pieces = [*pieces[: length - 1], end]
            tokens[row, : len(pieces)] = pieces
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of text ids; padding and the end-of-sequence id have none."""
        return self._processor.decode([int(t) for t in tokens if t != PAD])


def train_vocabulary(texts: Iterable[str], size: int) -> bytes:
    """A SentencePiece unigram model with T5's special ids (0 padding, 1 end, 2 unknown).

    Args:
        texts: what it is trained on; case is folded, as queries ignore it.
        size: pieces; fewer if the texts have fewer.

    Returns:
        The serialised model.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf",
        pad_id=PAD,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,  # the sums of several threads differ from run to run
        minloglevel=2,
    )
    return model.getvalue()
