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


class CodeVocabulary:
    """ID tokens, after ids of something else.

    Attributes:
        first_id_token: id of level 0's code 0.
        levels: L; 0 where there are no ID tokens.
        codebook_size: K.
        rows: ids in use, rounded up to a multiple of 128.
    """

    def __init__(self, levels: int, codebook_size: int, first_id_token: int = PAD + 1) -> None:
        """ID tokens from `first_id_token` on; by default there is nothing else but padding.

        Args:
            levels: L.
            codebook_size: K.
            first_id_token: id of level 0's code 0.
        """
        self.levels, self.codebook_size, self.first_id_token = levels, codebook_size, first_id_token
        self.rows = padded_rows(first_id_token + levels * codebook_size)

    def encode_codes(self, codes: np.ndarray) -> np.ndarray:
        """ID tokens of codes: int [..., L] to int32 [..., L].

        Raises:
            InputError: not L codes in a row, or a code outside 0..K-1.
        """
        codes = np.asarray(codes)
        self._check_levels(codes, "codes")
        outside = (codes < 0) | (codes >= self.codebook_size)
        if outside.any():
            raise InputError(
                f"found code {codes[outside][0]} of level {np.argwhere(outside)[0, -1]}, expected "
                f"0 to {self.codebook_size - 1}"
            )
        return (codes + self._level_starts()).astype(np.int32)

    def decode_codes(self, tokens: np.ndarray) -> np.ndarray:
        """Codes of ID tokens, the inverse of `encode_codes`.

        Raises:
            InputError: not L tokens in a row, or one that is not of its level.
        """
        tokens = np.asarray(tokens)
        self._check_levels(tokens, "ID tokens")
        codes = tokens - self._level_starts()
        outside = (codes < 0) | (codes >= self.codebook_size)
        if outside.any():
            level = np.argwhere(outside)[0, -1]
            start = self._level_starts()[level]
            raise InputError(
                f"found token {tokens[outside][0]} at level {level}, expected {start} to "
                f"{start + self.codebook_size - 1}"
            )
        return codes.astype(np.int32)

    def _level_starts(self) -> np.ndarray:
        """The ID token of each level's code 0, [L]."""
        return self.first_id_token + np.arange(self.levels) * self.codebook_size

    def _check_levels(self, array: np.ndarray, name: str) -> None:
        if array.ndim == 0 or array.shape[-1] != self.levels:
            raise InputError(
                f"found {name} of shape {array.shape}, expected {self.levels} in a row"
            )


class Vocabulary(CodeVocabulary):
    """Text and ID tokens in one range of ids; level 0's code 0 is at pieces plus `extra_ids`.

    Attributes:
        model: the SentencePiece model, serialised.
        pieces: of the model; the ids of text are below.
        end: id of the end of a sequence.
        unknown: id of what has no piece.
    """

    def __init__(
        self, path: str | os.PathLike[str], levels: int, codebook_size: int, extra_ids: int = 0
    ) -> None:
        """Loads a SentencePiece model.

        Args:
            path: the model; its piece 0 must be the padding, as in T5's.
            levels: L.
            codebook_size: K.
            extra_ids: ids kept free after the pieces (T5: 100).

        Raises:
            InputError: no such file, not a SentencePiece model, or one without padding at 0 or
                without an end of sequence.
        """
        try:
            self.model = pathlib.Path(path).read_bytes()
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self.model)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except RuntimeError as error:
            raise InputError(f"{path}: found no SentencePiece model, expected one") from error
        if self._processor.pad_id() != PAD:
            raise InputError(
                f"{path}: found padding id {self._processor.pad_id()}, expected {PAD} as in T5"
            )
        self.end, self.unknown = self._processor.eos_id(), self._processor.unk_id()
        if self.end < 0:
            raise InputError(f"{path}: found no end-of-sequence piece, expected one as in T5")
        self.pieces = self._processor.get_piece_size()
        super().__init__(levels, codebook_size, self.pieces + extra_ids)

    def text_ids(self, text: str) -> list[int]:
        """Ids of a text's pieces, without an end."""
        return self._processor.encode(text)

    def encode(self, texts: list[str], length: int) -> np.ndarray:
        """Texts as int32 [len(texts), length]: pieces and the end-of-sequence id, then padding.

        A longer text is cut and still ends with the end-of-sequence id.
        """
        return self.encode_and_count(texts, length)[0]

    def encode_and_count(self, texts: list[str], length: int) -> tuple[np.ndarray, int]:
        """What `encode` returns, and how many texts were cut."""
        tokens, cut = np.full((len(texts), length), PAD, np.int32), 0
        for row, pieces in enumerate(self._processor.encode(texts)):
            cut += len(pieces) > length - 1
            pieces = [*pieces[: length - 1], self.end]
            tokens[row, : len(pieces)] = pieces
        return tokens, cut

    @property
    def piece_texts(self) -> list[str]:
        """The text of every piece, in the order of their ids."""
        return self._processor.id_to_piece(list(range(self.pieces)))

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of text ids; padding and the end-of-sequence id have none.

        Raises:
            InputError: an id that is no piece's.
        """
        pieces = [int(token) for token in tokens if token != PAD]
        for token in pieces:
            if not 0 <= token < self.pieces:
                raise InputError(f"found id {token} in a text, expected 0 to {self.pieces - 1}")
        return self._processor.decode(pieces)


def padded_rows(ids: int) -> int:
    """Rows of an embedding for this many ids: the next multiple of 128, as T5's have."""
    return -(-ids // 128) * 128


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
