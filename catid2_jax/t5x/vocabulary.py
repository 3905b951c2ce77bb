"""The vocabulary of stage 2 in seqio's form."""

import itertools
import re
import string
from collections.abc import Sequence
from os import PathLike, fspath

import numpy as np
import seqio
import tensorflow as tf

from catid2_jax.docids.vocabulary import Vocabulary


class IdVocabulary(seqio.Vocabulary):
    """Encodes texts by SentencePiece and document IDs by one token per code.

    A text that is as a whole an ID of L codes, `<a_65><b_225>`, becomes ID tokens; every other
    becomes pieces, and none gets an extra id between the pieces and the ID tokens.

    Attributes:
        ids: the same vocabulary for the rest of the package.
    """

    def __init__(
        self, path: str | PathLike[str], levels: int, codebook_size: int, extra_ids: int = 0
    ) -> None:
        """Loads a SentencePiece model; arguments and errors are those of `Vocabulary`."""
        super().__init__(extra_ids=0)
        self.ids = Vocabulary(path, levels, codebook_size, extra_ids)
        self._text = seqio.SentencePieceVocabulary(fspath(path), extra_ids=0)
        code = "|".join(map(str, range(codebook_size)))
        self._docid = "".join(f"<{level}_({code})>" for level in string.ascii_lowercase[:levels])

    @property
    def bos_id(self) -> int | None:
        """None: no token marks the beginning of a text."""
        return None

    @property
    def eos_id(self) -> int:
        """Id of the token that ends a text."""
        return self.ids.end

    @property
    def unk_id(self) -> int:
        """Id of a character that no piece covers."""
        return self.ids.unknown

    @property
    def _base_vocab_size(self) -> int:
        return self.ids.first_id_token + self.ids.levels * self.ids.codebook_size

    def _encode(self, s: str) -> Sequence[int]:
        docid = re.fullmatch(self._docid, s)
        if docid is None:
            return self._text.encode(s)
        return self.ids.encode_codes(np.array(docid.groups(), np.int32)).tolist()

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def docid() -> tf.Tensor:
            codes = tf.strings.split(tf.strings.regex_replace(s, "<[a-z]_([0-9]+)>", "\\1 "))
            levels = tf.range(self.ids.levels) * self.ids.codebook_size
            return self.ids.first_id_token + levels + tf.strings.to_number(codes, tf.int32)

        return tf.cond(
            tf.strings.regex_full_match(s, self._docid), docid, lambda: self._text.encode_tf(s)
        )

    def _decode(self, ids: Sequence[int]) -> str:
        runs = itertools.groupby(ids, lambda token: token >= self.ids.first_id_token)
        return "".join(
            "".join(map(self._mark, run)) if is_id else self._text.decode(list(run))
            for is_id, run in runs
        )

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(rows: np.ndarray) -> np.ndarray:
            return np.array([self._decode(row) for row in rows.tolist()], object)

        rows = tf.reshape(ids, (-1, tf.shape(ids)[-1]))
        return tf.reshape(tf.numpy_function(decode, [rows], tf.string), tf.shape(ids)[:-1])

    def _mark(self, token: int) -> str:
        level, code = divmod(token - self.ids.first_id_token, self.ids.codebook_size)
        return f"<{string.ascii_lowercase[level]}_{code}>"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, IdVocabulary)
            and self._text == other._text
            and self._key() == other._key()
        )

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[int, int, int]:
        return self.ids.levels, self.ids.codebook_size, self.ids.first_id_token

    def __str__(self) -> str:
        return f"{self._text} and {self.ids.levels} x {self.ids.codebook_size} ID tokens"
