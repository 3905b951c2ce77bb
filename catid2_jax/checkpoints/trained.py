"""Reads what a work directory's runs have trained: the T5 of stage 2, stage 1's codebooks."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from catid2_jax.checkpoints.t5x import read_orbax
from catid2_jax.checkpoints.tree import Checkpoint, IdTokens, unflatten
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.errors import InputError
from catid2_jax.files import DIGESTS, file_digest
from catid2_jax.models.t5.config import T5Config
from catid2_jax.records import (
    Record,
    check_files,
    choose_system,
    left_files,
    read_record,
    record_path,
    systems_in,
)
from catid2_jax.training.checkpoint import Which, newest_step


def system_folder(path: pathlib.Path, part: str) -> pathlib.Path | None:
    """Finds the folder of one system.

    Args:
        path: that folder, or the work directory that it lies in, where `choose_system` takes one.
        part: the subfolder of what the system has trained, "rqvae" or "seq2seq".

    Returns:
        The system's folder, or None if `path` is neither.
    """
    if (path / part).is_dir():
        return path
    if (path / "steps").is_dir() and systems_in(path):
        return path / choose_system(path, steps=("train_seq2seq", "docids"))
    return None


def read_trained(folder: pathlib.Path, which: Which = "last") -> Checkpoint:
    """Reads the T5 of stage 2.

    Args:
        folder: the folder of one system in a work directory.
        which: the checkpoint that is read.

    Raises:
        InputError: stage 2 has no such checkpoint, its network reads vectors instead of text or has
            another encoder or decoder than T5's, no record says how it was trained, or its
            vocabulary is not that of then.
    """
    record, shape = _record(folder, "train_seq2seq"), _record(folder, "docids").result
    config = record.config
    t5, section = config["t5"], config["seq2seq"]
    if t5.get("memory_tokens"):
        raise InputError(
            folder,
            f"a network that reads vectors (memory_tokens = {t5['memory_tokens']})",
            "a T5, which reads text",
        )
    if section.get("pretrained_encoder"):
        raise InputError(
            folder,
            f"a network with an encoder of its own, {section['pretrained_encoder']!r}",
            "a T5, which alone is read and converted",
        )
    if section.get("decoder", "t5") == "pawa":
        raise InputError(folder, "a network of the decoder 'pawa'", "that of 't5', a T5")
    leaves, step = _read(folder, "seq2seq", which, "params")
    fields = t5 | {"mlp_activations": tuple(t5["mlp_activations"])}
    path = pathlib.Path(section["vocabulary"] or folder.parent / "vocabulary.model")
    check_files(record_path(folder.parent, "vocabulary"))
    learnt = None if section["vocabulary"] else record.built_on.get(path.name)
    if learnt and learnt != file_digest(path):
        raise InputError(path, f"another vocabulary than {folder} was trained with", "that one")
    levels, codebook_size = shape["levels"], shape["codebook_size"]
    vocabulary = Vocabulary(path, levels, codebook_size, section["extra_ids"])
    tokens = IdTokens(vocabulary.first_id_token, levels, codebook_size)
    normalize_over = section["objective"].get("normalize_over", "full")
    return Checkpoint(leaves, T5Config(**fields), step, tokens, path, normalize_over)


def read_decoder(folder: pathlib.Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Reads the parameters of any trained stage 2: the best on dev if there are any, else the last.

    Args:
        folder: has the trainings of one system.
        expected: shape of every parameter, by its path.

    Raises:
        InputError: there are none, or a leaf, which it names, is missing, superfluous or of another
            shape.
    """
    if not (folder / "seq2seq").is_dir():
        raise InputError(folder, "no trained stage 2", "one to go on from")
    kinds: tuple[Which, ...] = ("best", "last")
    there = [kind for kind in kinds if finished_step(folder, "seq2seq", kind) is not None]
    leaves, _ = _read(folder, "seq2seq", there[0] if there else "last", "params")
    for name in sorted(expected.keys() | leaves.keys()):
        found = leaves[name].shape if name in leaves else "none"
        if found != expected.get(name, "none"):
            raise InputError(
                folder / "seq2seq", f"{name} of shape {found}", expected.get(name, "none")
            )
    return unflatten(leaves)


def read_codebooks(path: str | pathlib.Path, which: Which = "last") -> np.ndarray:
    """Reads the codebooks of stage 1, [L, K, Z].

    Args:
        path: an .npy file, a system's folder in a work directory, or a work directory.
        which: the checkpoint of a folder that is read.

    Raises:
        InputError: there are none, or the array is of another form.
    """
    path = pathlib.Path(path).absolute()
    if path.is_dir():
        folder = system_folder(path, "rqvae") or path
        leaves, _ = _read(folder, "rqvae", which, "params/quantizer")
        return leaves["codebooks"]
    try:
        codebooks = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(
            path, f"no readable file ({error.strerror or error})", "an .npy file"
        ) from error
    except ValueError as error:
        raise InputError(path, f"no array ({error})", "an .npy file") from error
    if codebooks.ndim != 3 or codebooks.dtype.kind != "f" or not np.isfinite(codebooks).all():
        raise InputError(
            path,
            f"an array of shape {codebooks.shape} and type {codebooks.dtype}",
            "codebooks [levels, codebook_size, width] of finite real numbers",
        )
    return codebooks


def finished_step(folder: pathlib.Path, part: str, which: Which) -> int | None:
    """The step of the newest checkpoint of a training, or None if there is none.

    A training that is not finished goes on from the checkpoint before a damaged one. What a
    finished one ended with has no substitute.

    Args:
        folder: the folder of one system.
        part: the subfolder of the training, "rqvae" or "seq2seq".
        which: the kind of the checkpoint.

    Raises:
        InputError: the training is finished, and what it ended with is not as it was saved.
    """
    found = newest_step(folder / part / which)
    path = record_path(folder, {"rqvae": "docids", "seq2seq": "train_seq2seq"}[part])
    record = read_record(path)
    if record is None or not record.done:
        return found
    names = left_files(record, (f"{part}/{which}/*/{DIGESTS}",))
    ended = max((int(name.split("/")[2]) for name in names), default=found)
    if found != ended:
        delete, then = f"{path} and {folder / part}", "trains anew"
        if which == "last" and found is not None:
            delete, then = f"{path}", f"trains on from step {found}"
        raise InputError(
            folder / part / which / str(ended),
            "no whole checkpoint, though the training ended with it",
            f"it as it was: restore it, or delete {delete} and run the same command again, which "
            f"{then}",
        )
    return ended


def _read(
    folder: pathlib.Path, part: str, which: Which, leaves: str
) -> tuple[dict[str, np.ndarray], int]:
    """Reads the leaves of a part of a training's state, by their path in it, and the step."""
    step = finished_step(folder, part, which)
    if step is None:
        raise InputError(folder / part / which, "no checkpoint", "a trained model")
    found = read_orbax(folder / part / which / str(step) / "default", (leaves,))
    return {name.removeprefix(f"{leaves}/"): leaf for name, leaf in found.items()}, step


def _record(folder: pathlib.Path, step: str) -> Record:
    """Reads the record of a step."""
    record = read_record(record_path(folder, step))
    if record is None:
        raise InputError(
            folder / "steps", f"no record of {step}", "the records that training leaves"
        )
    return record
