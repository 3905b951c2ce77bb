"""Reads what a work directory's runs have trained: the T5 of stage 2, stage 1's codebooks."""

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
    """Reads the T5 of stage 2.

    Args:
        workdir: the directory of a run.
        which: the checkpoint that is read.

    Raises:
        InputError: stage 2 has no such checkpoint, its network reads vectors instead of text, or no
            record says how it was trained.
    """
    sections = _sections(workdir)
    if sections["t5"].get("memory_tokens"):
        raise InputError(
            workdir,
            f"a network that reads vectors (memory_tokens = {sections['t5']['memory_tokens']})",
            "a T5, which reads text",
        )
    leaves, step = _read_last(workdir / "seq2seq" / which, "params")
    fields = sections["t5"] | {"mlp_activations": tuple(sections["t5"]["mlp_activations"])}
    path = pathlib.Path(sections["seq2seq"]["vocabulary"] or workdir / "vocabulary.model")
    levels, codebook_size = sections["rqvae"]["levels"], sections["rqvae"]["codebook_size"]
    vocabulary = Vocabulary(path, levels, codebook_size, sections["seq2seq"]["extra_ids"])
    tokens = IdTokens(vocabulary.first_id_token, levels, codebook_size)
    return Checkpoint(leaves, T5Config(**fields), step, tokens, path)


def read_codebooks(path: str | pathlib.Path, which: Which = "last") -> np.ndarray:
    """Reads the codebooks of stage 1, [L, K, Z], from a work directory or an .npy file.

    Raises:
        InputError: there are none, or the array is of another form.
    """
    path = pathlib.Path(path).absolute()
    if path.is_dir():
        leaves, _ = _read_last(path / "rqvae" / which, "params/quantizer")
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
    steps = [int(p.name) for p in folder.glob("*") if p.name.isdecimal()]
    if not steps:
        raise InputError(folder, "no checkpoint", "a trained model")
    leaves = read_orbax(folder / str(max(steps)) / "default", (part,))
    return {name.removeprefix(f"{part}/"): leaf for name, leaf in leaves.items()}, max(steps)


def _sections(workdir: pathlib.Path) -> dict[str, Any]:
    """Reads the sections of the configuration with which both stages were trained."""
    sections: dict[str, Any] = {}
    for step in ("train_rqvae", "train_seq2seq"):
        path = workdir / "steps" / f"{step}.json"
        if path.exists():
            sections |= read_json(path).get("config", {})
    for name in ("rqvae", "seq2seq", "t5"):
        if name not in sections:
            raise InputError(
                workdir / "steps",
                f"no record of the configuration of {name}",
                "the records that training leaves",
            )
    return sections
