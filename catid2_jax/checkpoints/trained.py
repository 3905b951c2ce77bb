"""Reads what a work directory's runs have trained: the T5 of stage 2, stage 1's codebooks."""

import pathlib

import numpy as np

from catid2_jax.checkpoints.t5x import read_orbax
from catid2_jax.checkpoints.tree import Checkpoint, IdTokens
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.records import (
    Record,
    check_files,
    choose_system,
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
            another encoder or decoder than T5's, or no record says how it was trained.
    """
    config, shape = _record(folder, "train_seq2seq").config, _record(folder, "docids").result
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
    leaves, step = _read_last(folder / "seq2seq" / which, "params")
    fields = t5 | {"mlp_activations": tuple(t5["mlp_activations"])}
    path = pathlib.Path(section["vocabulary"] or folder.parent / "vocabulary.model")
    check_files(record_path(folder.parent, "vocabulary"))
    levels, codebook_size = shape["levels"], shape["codebook_size"]
    vocabulary = Vocabulary(path, levels, codebook_size, section["extra_ids"])
    tokens = IdTokens(vocabulary.first_id_token, levels, codebook_size)
    normalize_over = section["objective"].get("normalize_over", "full")
    return Checkpoint(leaves, T5Config(**fields), step, tokens, path, normalize_over)


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
        leaves, _ = _read_last(folder / "rqvae" / which, "params/quantizer")
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


def _read_last(folder: pathlib.Path, part: str) -> tuple[dict[str, np.ndarray], int]:
    """Reads the leaves of a part of a training state, by their path in it, and the step."""
    step = newest_step(folder)
    if step is None:
        raise InputError(folder, "no checkpoint", "a trained model")
    leaves = read_orbax(folder / str(step) / "default", (part,))
    return {name.removeprefix(f"{part}/"): leaf for name, leaf in leaves.items()}, step


def _record(folder: pathlib.Path, step: str) -> Record:
    """Reads the record of a step."""
    record = read_record(record_path(folder, step))
    if record is None:
        raise InputError(
            folder / "steps", f"no record of {step}", "the records that training leaves"
        )
    return record
