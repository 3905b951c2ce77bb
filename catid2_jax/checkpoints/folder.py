"""Reads a checkpoint folder of any supported format, and writes one."""

import dataclasses
import pathlib
import re
from typing import Any, Literal

import numpy as np

from catid2_jax.checkpoints.huggingface import (
    INDEX,
    WEIGHTS,
    read_hugging_face,
    read_token_names,
    write_hugging_face,
)
from catid2_jax.checkpoints.id_rows import with_id_tokens
from catid2_jax.checkpoints.t5x import read_t5x, write_t5x
from catid2_jax.checkpoints.tokenizer import PIECES, write_tokenizer
from catid2_jax.checkpoints.trained import read_trained, system_folder
from catid2_jax.checkpoints.tree import (
    Checkpoint,
    IdTokens,
    check_parameters,
    infer_config,
    read_json,
    unflatten,
)
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_folder, write_json
from catid2_jax.models.t5.config import T5Config
from catid2_jax.training.checkpoint import Which

Format = Literal["t5x", "huggingface"]

NOTE = "catid2.json"
"""The file that says what no other does: the whole `T5Config` and where the ID tokens lie."""

_ID_TOKEN = re.compile(r"<id_\d+_\d+>")
_STEP = re.compile(r"checkpoint_(\d+)")


def read_checkpoint(
    path: str | pathlib.Path, which: Which = "last", encoder_alone: bool = False
) -> Checkpoint:
    """Reads a T5 from T5X's, Hugging Face's or our own files, whichever lie there.

    Args:
        path: a `checkpoint_N` of T5X (Orbax or legacy), or a folder of those, of which the last is
            taken; a folder that `save_pretrained` wrote, with safetensors; or the folder of a
            system with a trained stage 2, or the work directory that it lies in, whose first
            trained system (`records.choose_system`) is taken.
        which: the checkpoint of a system that is read.
        encoder_alone: whether an encoder without a decoder is enough.

    Raises:
        InputError: there is none, or a leaf cannot be read or is not of the network's shape, or
            there is an encoder alone and that is not enough.
    """
    path = pathlib.Path(path).absolute()
    trained = system_folder(path, "seq2seq")
    if trained:
        checkpoint = read_trained(trained, which)
    elif (path / WEIGHTS).is_file() or (path / INDEX).is_file():
        checkpoint = dataclasses.replace(
            _with_note(read_hugging_face(path), path), token_names=_token_names(path)
        )
    else:
        folder = _t5x_folder(path)
        params, step = read_t5x(folder)
        checkpoint = _with_note(
            Checkpoint(params, infer_config(params, folder), step), folder.parent, folder
        )
    check_parameters(checkpoint.params, checkpoint.config, checkpoint.rows, path)
    if checkpoint.is_encoder and not encoder_alone:
        raise InputError(path, "a T5's encoder alone", "a whole T5, with a decoder")
    return checkpoint


def load_pretrained(
    path: str | pathlib.Path,
    config: T5Config,
    vocabulary: Vocabulary,
    codebooks: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Reads the parameters from which stage 2 starts.

    Args:
        path: any checkpoint that `read_checkpoint` reads.
        config: the network that is to be trained; its dropout, dtype and remat need not be the
            checkpoint's.
        vocabulary: its ID tokens get new rows if the checkpoint lacks them.
        codebooks: stage 1's, [L, K, Z], from which new rows are drawn; None for a normal
            distribution.
        seed: seed of that draw.

    Returns:
        The parameters of `Transformer(config, vocabulary.rows)`, float32.

    Raises:
        InputError: there is no checkpoint, or its network or its vocabulary is another.
    """
    checkpoint = read_checkpoint(path)
    check_parameters(checkpoint.params, config, checkpoint.rows, path)
    free = {name: getattr(config, name) for name in ("dropout_rate", "dtype", "remat")}
    found = dataclasses.asdict(checkpoint.config) | free
    for name, value in dataclasses.asdict(config).items():
        if found[name] != value:
            raise InputError(path, f"a T5 with {name} = {found[name]}", value)
    params = with_id_tokens(checkpoint, vocabulary, path, codebooks, seed).params
    own = checkpoint.vocabulary
    if own and Vocabulary(own, 0, 0).piece_texts != vocabulary.piece_texts:
        raise InputError(
            path, f"other pieces in its {own.name} than in the vocabulary given", "the same pieces"
        )
    return unflatten({name: leaf.astype(np.float32) for name, leaf in params.items()})


def write_checkpoint(
    path: str | pathlib.Path,
    kind: Format,
    checkpoint: Checkpoint,
    vocabulary: Vocabulary | None = None,
) -> None:
    """Writes a checkpoint folder, whole or not at all.

    Args:
        path: the new folder, which must not exist or be empty.
        kind: the format.
        checkpoint: what is written.
        vocabulary: written beside the parameters; Hugging Face's format needs one for the
            tokenizer.

    Raises:
        InputError: there is something at `path`, or `vocabulary` is missing.
    """
    path = pathlib.Path(path).absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(path, "something there already", "no such folder or an empty one")
    if kind == "huggingface" and vocabulary is None:
        raise InputError("vocabulary", "none", "one for Hugging Face's tokenizer")
    with atomic_folder(path) as folder:
        if kind == "huggingface":
            write_hugging_face(folder, checkpoint)
        else:
            write_t5x(folder, checkpoint)
        if kind == "huggingface" and vocabulary is not None:
            write_tokenizer(folder, vocabulary)
        elif vocabulary is not None:
            (folder / PIECES).write_bytes(vocabulary.model)
        note = dataclasses.asdict(dataclasses.replace(checkpoint, params={}, token_names={}))
        write_json(folder / NOTE, {name: note[name] for name in ("config", "id_tokens", "step")})


def _t5x_folder(path: pathlib.Path) -> pathlib.Path:
    """Returns the folder itself if it is a checkpoint of T5X, else the last checkpoint in it."""
    if (path / "state").is_dir() or (path / "checkpoint").is_file():
        return path
    steps = {int(m[1]): p for p in path.glob("*") if (m := _STEP.fullmatch(p.name))}
    if steps:
        return steps[max(steps)]
    if not path.is_dir():
        raise InputError(path, "no such folder", "a checkpoint")
    names = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
    raise InputError(
        path,
        names,
        f"T5X's checkpoint_N (with state/ or checkpoint in it), {WEIGHTS} or {INDEX}, or a work "
        "directory with a trained system",
    )


def _token_names(folder: pathlib.Path) -> dict[int, str]:
    names = read_token_names(folder)
    return {token: name for token, name in names.items() if not _ID_TOKEN.fullmatch(name)}


def _with_note(checkpoint: Checkpoint, *places: pathlib.Path) -> Checkpoint:
    """Adds to a checkpoint what lies beside it: our note, and the SentencePiece model."""
    found = {name: p / name for p in places for name in (NOTE, PIECES) if (p / name).is_file()}
    checkpoint = dataclasses.replace(checkpoint, vocabulary=found.get(PIECES))
    if NOTE not in found:
        return checkpoint
    note = read_json(found[NOTE])
    try:
        config = note["config"] | {"mlp_activations": tuple(note["config"]["mlp_activations"])}
        tokens = note["id_tokens"] and IdTokens(**note["id_tokens"])
        return dataclasses.replace(
            checkpoint, config=T5Config(**config), id_tokens=tokens, step=note["step"]
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            found[NOTE], f"a note of another form ({error!r})", "the note that a conversion leaves"
        ) from error
