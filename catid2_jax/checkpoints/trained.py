"""What a work directory has learnt: the T5 of stage 2, the codebooks of stage 1."""

import pathlib
from typing import Any

import numpy as np

from catid2_jax.checkpoints.t5x import read_orbax
from catid2_jax.checkpoints.tree import Checkpoint, IdTokens, read_json
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.training.checkpoint import Which


def read_trained(workdir: pathlib.Path, which: Which = "last") -> Checkpoint:
    """The T5 of stage 2.

    Args:
        workdir: of a run.
        which: of its checkpoints.

    Raises:
        InputError: stage 2 has no such checkpoint, it reads vectors and not text, or no record says
            how it was trained.
    """
    sections = _sections(workdir)
    if sections["t5"].get("memory_tokens"):
        raise InputError(
            f"{workdir}: found a network that reads vectors (memory_tokens = "
            f"{sections['t5']['memory_tokens']}), expected a T5, which reads text"
        )
    leaves, step = _read_last(workdir / "seq2seq" / which, "params")
    fields = sections["t5"] | {"mlp_activations": tuple(sections["t5"]["mlp_activations"])}
    path = pathlib.Path(sections["seq2seq"]["vocabulary"] or workdir / "vocabulary.model")
    levels, codebook_size = sections["rqvae"]["levels"], sections["rqvae"]["codebook_size"]
    vocabulary = Vocabulary(path, levels, codebook_size, sections["seq2seq"]["extra_ids"])
    tokens = IdTokens(vocabulary.first_id_token, levels, codebook_size)
    return Checkpoint(leaves, T5Config(**fields), step, tokens, path)


def read_codebooks(path: str | pathlib.Path, which: Which = "last") -> np.ndarray:
    """Codebooks of stage 1, [L, K, Z], from a work directory or an .npy file.

    Raises:
        InputError: there are none, or an array that is none.
    """
    path = pathlib.Path(path).absolute()
    if path.is_dir():
        leaves, _ = _read_last(path / "rqvae" / which, "params/quantizer")
        return leaves["codebooks"]
    try:
        codebooks = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise InputError(f"{path}: found no array, expected an .npy file ({error})") from error
    if codebooks.ndim != 3 or codebooks.dtype.kind != "f" or not np.isfinite(codebooks).all():
        raise InputError(
            f"{path}: found an array of shape {codebooks.shape} and type {codebooks.dtype}, "
            "expected codebooks [levels, codebook_size, width] of finite real numbers"
        )
    return codebooks


def _read_last(folder: pathlib.Path, part: str) -> tuple[dict[str, np.ndarray], int]:
    """The leaves of a part of a training state, by their path in it, and the step."""
    steps = [int(p.name) for p in folder.glob("*") if p.name.isdecimal()]
    if not steps:
        raise InputError(f"{folder}: found no checkpoint, expected a trained model")
    leaves = read_orbax(folder / str(max(steps)) / "default", (part,))
    return {name.removeprefix(f"{part}/"): leaf for name, leaf in leaves.items()}, max(steps)


def _sections(workdir: pathlib.Path) -> dict[str, Any]:
    """The sections of the configuration with which both stages were trained."""
    sections: dict[str, Any] = {}
    for step in ("train_rqvae", "train_seq2seq"):
        path = workdir / "steps" / f"{step}.json"
        if path.exists():
            sections |= read_json(path).get("config", {})
    for name in ("rqvae", "seq2seq", "t5"):
        if name not in sections:
            raise InputError(
                f"{workdir / 'steps'}: found no record of config.{name}, expected those that "
                "training leaves"
            )
    return sections
