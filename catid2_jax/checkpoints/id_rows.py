"""Adds rows for the ID tokens to a pretrained T5's embedding and logits."""

import dataclasses
import pathlib

import numpy as np

from catid2_jax.checkpoints.tree import EMBEDDING, LOGITS, Checkpoint, IdTokens
from catid2_jax.docids.vocabulary import Vocabulary, padded_rows
from catid2_jax.errors import InputError


def find_vocabulary(
    checkpoint: Checkpoint,
    path: str = "",
    levels: int = 0,
    codebook_size: int = 0,
    extra_ids: int = 0,
) -> Vocabulary | None:
    """Returns the vocabulary that is asked for; what is left out is taken from the checkpoint.

    Args:
        checkpoint: the T5 that the vocabulary is for.
        path: a SentencePiece model; empty for the one beside the checkpoint.
        levels: L; 0 takes the checkpoint's, which may have no ID tokens.
        codebook_size: K; 0 takes the checkpoint's, which may have no ID tokens.
        extra_ids: ids between the pieces and the ID tokens; 0 takes the checkpoint's, if it says.

    Returns:
        None if there is no model beside the checkpoint and none is asked for.

    Raises:
        InputError: a model is needed and none lies beside the checkpoint, or the numbers do not go
            together.
    """
    place, tokens = path or checkpoint.vocabulary, checkpoint.id_tokens
    if not place:
        if levels or codebook_size or extra_ids:
            raise InputError("vocabulary", "none", "the path of a SentencePiece model")
        return None
    if tokens:
        levels, codebook_size = levels or tokens.levels, codebook_size or tokens.codebook_size
        extra_ids = extra_ids or tokens.first - Vocabulary(place, 0, 0).pieces
    if bool(levels) != bool(codebook_size) or min(levels, codebook_size, extra_ids) < 0:
        raise InputError(
            "vocabulary",
            f"{levels} levels, {codebook_size} codes and {extra_ids} extra ids",
            "both levels and codes or neither, and no number below 0",
        )
    return Vocabulary(place, levels, codebook_size, extra_ids)


def with_id_tokens(
    checkpoint: Checkpoint,
    vocabulary: Vocabulary,
    where: str | pathlib.Path,
    codebooks: np.ndarray | None = None,
    seed: int = 0,
) -> Checkpoint:
    """Returns a T5 whose embedding and logits have `vocabulary.rows` rows, with all ID tokens.

    A checkpoint that has them is returned unchanged. In any other, the rows of text and all other
    parameters stay bit for bit, and the rows of ID tokens are drawn anew with the text's mean and
    spread per dimension, one draw for the embedding and the logits' kernel. Rows after the last ID
    token are the checkpoint's own as far as it has them, then the text's mean: zeros would give the
    logit 0, which is far above that of a word that does not fit.

    Args:
        checkpoint: a T5 with rows for the vocabulary's text, up to a multiple of 128, or for text
            and ID tokens.
        vocabulary: what the rows shall stand for.
        where: the checkpoint's path, which errors name.
        codebooks: stage 1's, [L, K, Z], from which rows are drawn; None for a normal distribution.
        seed: seed of the draw.

    Raises:
        InputError: the vocabulary is not that of the checkpoint, has too few extra ids for the
            tokens that a fine-tune has added, or the codebooks are not L x K.
    """
    _check_added_tokens(checkpoint, vocabulary, where)
    wanted = IdTokens(vocabulary.first_id_token, vocabulary.levels, vocabulary.codebook_size)
    first, rows = wanted.first, checkpoint.rows
    if checkpoint.id_tokens not in (None, wanted):
        found = checkpoint.id_tokens
        raise InputError(
            where,
            f"ID tokens of {found.levels} x {found.codebook_size} codes from {found.first} on",
            f"{wanted.levels} x {wanted.codebook_size} from {first} on",
        )
    has_them = checkpoint.id_tokens == wanted or rows > padded_rows(first)
    if rows != vocabulary.rows if has_them else rows < first:
        raise InputError(
            where,
            f"{EMBEDDING} of {rows} rows",
            f"{first} to {padded_rows(first)} for {vocabulary.pieces} pieces and "
            f"{first - vocabulary.pieces} extra ids, or {vocabulary.rows} with the ID tokens",
        )
    if has_them or not vocabulary.levels:
        return dataclasses.replace(checkpoint, id_tokens=wanted if vocabulary.levels else None)
    scores = _scores(wanted, checkpoint.params[EMBEDDING].shape[1], codebooks, seed)
    params = dict(checkpoint.params)
    params[EMBEDDING] = _grown(params[EMBEDDING], wanted, vocabulary.rows, scores)
    if LOGITS in params:
        params[LOGITS] = _grown(params[LOGITS].T, wanted, vocabulary.rows, scores).T
    return dataclasses.replace(checkpoint, params=params, id_tokens=wanted)


def _check_added_tokens(
    checkpoint: Checkpoint, vocabulary: Vocabulary, where: str | pathlib.Path
) -> None:
    """Refuses to put ID tokens where the checkpoint's own tokenizer has other tokens."""
    first, pieces = vocabulary.first_id_token, vocabulary.pieces
    ids = range(first, first + vocabulary.levels * vocabulary.codebook_size)
    names = checkpoint.token_names
    hit = sorted(token for token in names if token in ids)
    if hit and checkpoint.id_tokens is None:
        raise InputError(
            where,
            f"{len(hit)} tokens of its own after {pieces} pieces and {first - pieces} extra ids, "
            f"such as {names[hit[0]]!r:.60} of id {hit[0]}",
            f"{max(names) + 1 - pieces} extra ids, which keep the rows of all of them",
        )


def _grown(table: np.ndarray, wanted: IdTokens, rows: int, scores: np.ndarray) -> np.ndarray:
    """Adds rows of ID tokens, with the text's mean and spread per dimension, to a table [V, D]."""
    text = table[: wanted.first]
    mean, spread = text.mean(axis=0, dtype=np.float64), text.std(axis=0, dtype=np.float64)
    grown = np.empty((rows, table.shape[1]), table.dtype)
    grown[:] = mean
    grown[: len(table)] = table
    grown[wanted.first : wanted.first + len(scores)] = mean + spread * scores
    return grown


def _scores(wanted: IdTokens, width: int, codebooks: np.ndarray | None, seed: int) -> np.ndarray:
    """Draws rows [L K, D] of mean 0 and spread 1 per dimension.

    Codebooks are multiplied by one random matrix, orthonormal as far as the widths allow, and
    standardised level by level, because later codebooks hold ever shorter residuals.
    """
    generator = np.random.default_rng(seed)
    if codebooks is None:
        return generator.standard_normal((wanted.levels * wanted.codebook_size, width))
    if codebooks.ndim != 3 or codebooks.shape[:2] != (wanted.levels, wanted.codebook_size):
        raise InputError(
            "codebooks",
            f"shape {codebooks.shape}",
            f"{wanted.levels} levels of {wanted.codebook_size} codes",
        )
    latent = codebooks.shape[2]
    random = generator.standard_normal((max(latent, width), min(latent, width)))
    turn = np.linalg.qr(random).Q
    projected = codebooks.astype(np.float64) @ (turn if latent > width else turn.T)
    spread = projected.std(axis=1, keepdims=True)
    # Where all codes are the same, the spread is a rounding error.
    spread[spread < 1e-6 * np.abs(projected).max()] = np.inf
    return ((projected - projected.mean(axis=1, keepdims=True)) / spread).reshape(-1, width)
