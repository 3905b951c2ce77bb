"""What a work directory's record says of stage 2, for gin files: no number is said twice.

`source_tokens` and `normalize_over` fall back to the configuration's defaults where stage 2 has not
been trained; the shape of a network that is not there has no default.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from catid2_jax.constraints import check_local
from catid2_jax.errors import InputError
from catid2_jax.records import choose_system, read_record, record_path
from catid2_jax.seq2seq.config import Seq2SeqConfig


def source_tokens(workdir: str, system: str = "") -> int:
    """The most tokens of a query or title, which is cut there.

    Args:
        workdir: the work directory.
        system: the system whose stage 2 is meant, see `catid2_jax.t5x.tasks`.
    """
    section = _trained(workdir, system)[1].get("seq2seq", {})
    return int(section.get("source_tokens", Seq2SeqConfig().source_tokens))


def normalize_over(workdir: str, system: str = "") -> str:
    """What a code competes with for probability, as native training has learnt it.

    Args:
        workdir: the work directory.
        system: the system whose stage 2 is meant.
    """
    section = _trained(workdir, system)[1].get("seq2seq", {})
    return str(section.get("objective", {}).get("normalize_over", "full"))


def t5(workdir: str, name: str, system: str = "") -> Any:
    """A field of the shape of stage 2's network.

    Args:
        workdir: the work directory.
        name: the field of `T5Config`, which T5X's has, too.
        system: the system whose stage 2 is meant.

    Raises:
        InputError: stage 2 has not been trained there, is no T5 or reads vectors.
    """
    folder, values = _trained(workdir, system)
    if "t5" not in values:
        raise InputError(folder, "no step train_seq2seq", "a trained stage 2, by `train`")
    decoder, memory = values["seq2seq"]["decoder"], values["t5"]["memory_tokens"]
    if decoder != "t5" or memory or values["seq2seq"]["pretrained_encoder"]:
        found = f"a stage 2 with decoder {decoder!r} and {memory} memory tokens"
        raise InputError(folder, found, "a T5 that reads text, which T5X has")
    value = values["t5"][name]
    return tuple(value) if isinstance(value, list) else value


def _trained(workdir: str, system: str) -> tuple[pathlib.Path, Mapping[str, Any]]:
    """A system's folder, and the configuration of its stage 2; empty if that is not there."""
    root = check_local(workdir, "workdir")
    folder = root / choose_system(root, system, ("train_seq2seq", "docids"))
    record = read_record(record_path(folder, "train_seq2seq"))
    return folder, record.config if record else {}
