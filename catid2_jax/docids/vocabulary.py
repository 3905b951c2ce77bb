"""The vocabulary of stage 2: SentencePiece text, then L x K ID tokens.

The token of level l and code c has the id `first_id_token + l * K + c`; a text has SentencePiece's
own ids. The embedding has a multiple of 128 rows.
"""

import io
import itertools
import os
import pathlib
import re
import sys
from collections import Counter
from collections.abc import Iterable

import numpy as np
import sentencepiece

from catid2_jax.errors import InputError

PAD = 0
"""The id of padding, which is also the first input of the decoder, as in T5."""

_SPECIAL_IDS = 3  # padding, end and unknown
_NORMALIZATION = "nmt_nfkc_cf"
_COVERAGE = 0.9995  # the share of the text whose characters get a piece
_RESERVED = "\u2585"


class CodeVocabulary:
    """A vocabulary of ID tokens, whose ids follow those of other tokens.

    Attributes:
        first_id_token: id of the token of level 0 and code 0.
        levels: L; 0 where there are no ID tokens.
        codebook_size: K.
        rows: number of ids, rounded up to a multiple of 128.
    """

    def __init__(self, levels: int, codebook_size: int, first_id_token: int = PAD + 1) -> None:
        """Creates ID tokens that follow padding or, by `first_id_token`, other tokens too.

        Args:
            levels: L.
            codebook_size: K.
            first_id_token: id of the token of level 0 and code 0.
        """
        self.levels, self.codebook_size, self.first_id_token = levels, codebook_size, first_id_token
        self.rows = padded_rows(first_id_token + levels * codebook_size)

    def encode_codes(self, codes: np.ndarray) -> np.ndarray:
        """Encodes IDs as their tokens: int [..., L] to int32 [..., L].

        -1, which follows the last code of a shorter ID, becomes `PAD`.

        Raises:
            InputError: not L codes in a row, a code outside 0..K-1, or -1 before the last code.
        """
        codes = np.asarray(codes)
        self._check_levels(codes, "codes")
        ended = codes == -1
        outside = (codes < -1) | (codes >= self.codebook_size) | _misplaced(ended)
        if outside.any():
            raise InputError(
                "codes",
                f"code {codes[outside][0]} of level {np.argwhere(outside)[0, -1]}",
                f"0 to {self.codebook_size - 1}, or -1 after the end of a shorter ID",
            )
        return np.where(ended, PAD, codes + self._level_starts()).astype(np.int32)

    def decode_codes(self, tokens: np.ndarray) -> np.ndarray:
        """Decodes ID tokens to codes, the inverse of `encode_codes`: `PAD` becomes -1.

        Raises:
            InputError: not L tokens in a row, a token of another level, or `PAD` before the last
                token.
        """
        tokens = np.asarray(tokens)
        self._check_levels(tokens, "ID tokens")
        ended = tokens == PAD
        codes = np.where(ended, -1, tokens - self._level_starts())
        outside = (codes < 0) & ~ended | (codes >= self.codebook_size) | _misplaced(ended)
        if outside.any():
            level = np.argwhere(outside)[0, -1]
            start = self._level_starts()[level]
            raise InputError(
                "ID tokens",
                f"token {tokens[outside][0]} at level {level}",
                f"{start} to {start + self.codebook_size - 1}, or {PAD} after the end of a shorter "
                "ID",
            )
        return codes.astype(np.int32)

    def _level_starts(self) -> np.ndarray:
        """Returns the token of each level's code 0, [L]."""
        return self.first_id_token + np.arange(self.levels) * self.codebook_size

    def _check_levels(self, array: np.ndarray, name: str) -> None:
        """Raises InputError unless the last axis has length L."""
        if array.ndim == 0 or array.shape[-1] != self.levels:
            raise InputError(name, f"shape {array.shape}", f"{self.levels} in a row")


def _misplaced(ended: np.ndarray) -> np.ndarray:
    """Finds the padding that no ID has: at level 0 or just before a code; booleans [..., L]."""
    misplaced = np.zeros(ended.shape, bool)
    misplaced[..., :-1] = ended[..., :-1] & ~ended[..., 1:]
    misplaced[..., :1] |= ended[..., :1]
    return misplaced


class Vocabulary(CodeVocabulary):
    """A vocabulary of text and ID tokens, which start at `pieces` plus the extra ids.

    Attributes:
        model: the SentencePiece model, serialised.
        pieces: number of the model's pieces; the ids of text are below it.
        end: id of the end of a sequence.
        unknown: id of a character that no piece covers.
    """

    def __init__(
        self, path: str | os.PathLike[str], levels: int, codebook_size: int, extra_ids: int = 0
    ) -> None:
        """Loads a SentencePiece model.

        Args:
            path: the model's file; piece 0 must be padding, as in T5.
            levels: L.
            codebook_size: K.
            extra_ids: number of unused ids after the pieces (T5: 100).

        Raises:
            InputError: there is no such file, it is no SentencePiece model, or the model lacks
                padding as piece 0 or an end-of-sequence piece.
        """
        try:
            self.model = pathlib.Path(path).read_bytes()
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self.model)
        except OSError as error:
            raise InputError(
                path, f"no readable file ({error.strerror})", "a SentencePiece model"
            ) from error
        except RuntimeError as error:
            raise InputError(path, "no SentencePiece model", "one") from error
        if self._processor.pad_id() != PAD:
            raise InputError(path, f"padding id {self._processor.pad_id()}", f"{PAD} as in T5")
        self.end, self.unknown = self._processor.eos_id(), self._processor.unk_id()
        if self.end < 0:
            raise InputError(path, "no end-of-sequence piece", "one as in T5")
        self.pieces = self._processor.get_piece_size()
        super().__init__(levels, codebook_size, self.pieces + extra_ids)

    def text_ids(self, text: str) -> list[int]:
        """Returns the ids of a text's pieces, without the end-of-sequence id."""
        return self._processor.encode(text)

    def encode(self, texts: list[str], length: int) -> np.ndarray:
        """Encodes texts as int32 [len(texts), length].

        A row holds the ids of the text's pieces, the end-of-sequence id and padding. A longer text
        is cut and still ends with the end-of-sequence id.
        """
        return self.encode_and_count(texts, length)[0]

    def encode_and_count(self, texts: list[str], length: int) -> tuple[np.ndarray, int]:
        """Returns the result of `encode` and the number of texts that were cut."""
        tokens, cut = np.full((len(texts), length), PAD, np.int32), 0
        for row, pieces in enumerate(self._processor.encode(texts)):
            cut += len(pieces) > length - 1
            pieces = [*pieces[: length - 1], self.end]
            tokens[row, : len(pieces)] = pieces
        return tokens, cut

    @property
    def piece_texts(self) -> list[str]:
        """The texts of all pieces, in the order of their ids."""
        return self._processor.id_to_piece(list(range(self.pieces)))

    def uncovered(self, counts: Counter[str]) -> Counter[str]:
        """Selects the characters that are no piece, so that their words become unknown."""
        pieces = set(self.piece_texts)
        return Counter({c: count for c, count in counts.items() if c not in pieces})

    def decode(self, tokens: Iterable[int]) -> str:
        """Decodes ids to text; padding and the end-of-sequence id add nothing to it.

        Raises:
            InputError: an id that belongs to no piece.
        """
        pieces = [int(token) for token in tokens if token != PAD]
        for token in pieces:
            if not 0 <= token < self.pieces:
                raise InputError("", f"id {token} in a text", f"0 to {self.pieces - 1}")
        return self._processor.decode(pieces)


def padded_rows(ids: int) -> int:
    """Rounds a number of ids up to the rows of an embedding, a multiple of 128 as in T5."""
    return -(-ids // 128) * 128


def character_counts(texts: Iterable[str]) -> Counter[str]:
    """Counts the characters of texts as `train_vocabulary` sees them.

    They are normalised, and white space is "▁".
    """
    found = np.zeros(sys.maxunicode + 1, np.int64)
    texts = iter(texts)
    while batch := list(itertools.islice(texts, 4096)):
        codes = np.frombuffer(" ".join(batch).encode("utf-32-le", "replace"), np.uint32)
        found += np.bincount(codes, minlength=len(found))
    normalizer = sentencepiece.SentencePieceNormalizer(rule_name=_NORMALIZATION)
    counts: Counter[str] = Counter()
    for code in np.flatnonzero(found).tolist():
        for character in normalizer.normalize(chr(code)).removeprefix("▁") or "▁":
            counts[character] += int(found[code])
    return counts


def smallest_vocabulary(counts: Counter[str]) -> int:
    """Returns the pieces that a vocabulary needs at least: its special ids and characters.

    Of the characters, SentencePiece asks for the most frequent ones, until they cover 99.95 % of
    the text.
    """
    total, covered, needed = counts.total(), 0, _SPECIAL_IDS
    for _, count in counts.most_common():
        if covered >= _COVERAGE * total:
            break
        covered += count
        needed += 1
    return needed


def train_vocabulary(texts: Iterable[str], size: int) -> bytes:
    """Trains a SentencePiece unigram model with T5's special ids (0 padding, 1 end, 2 unknown).

    Args:
        texts: the training texts. Case is folded, because queries ignore it.
        size: number of pieces; the model has fewer if the texts do not yield as many.

    Returns:
        The serialised model.

    Raises:
        InputError: no text, or fewer pieces than the texts have characters.
    """
    # A text with SentencePiece's own sign for the unknown would be skipped.
    texts = [text.replace(_RESERVED, " ") for text in texts]
    longest = max((len(text.encode()) for text in texts), default=0)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size,
            hard_vocab_limit=False,
            max_sentence_length=max(longest, 4192),  # bytes; longer texts would be skipped
            character_coverage=_COVERAGE,
            normalization_rule_name=_NORMALIZATION,
            pad_id=PAD,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,  # several threads add in an order that differs from run to run
            minloglevel=2,
        )
    except RuntimeError as error:
        needed = re.search(r"required_chars. \d+ vs (\d+)", str(error))
        if needed:
            raise too_small(size, int(needed[1])) from error
        reason = " ".join(str(error).split())
        raise InputError(
            "texts", f"{reason:.200}", "texts that SentencePiece learns from"
        ) from error
    return model.getvalue()


def too_small(size: int, needed: int) -> InputError:
    """Returns the error of a vocabulary with fewer pieces than the texts have characters."""
    characters = needed - _SPECIAL_IDS
    return InputError(
        "vocabulary_size",
        f"{size}, and the texts have {characters:,} characters that need a piece",
        f"at least {needed}",
    )
