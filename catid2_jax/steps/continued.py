"""A stage 2 that goes on from an earlier state of the catalogue."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from catid2_jax.checkpoints.trained import read_decoder
from catid2_jax.checkpoints.tree import flatten
from catid2_jax.config import Config
from catid2_jax.docids.table import DocidTable, read_docids
from catid2_jax.encoders.config import PRECOMPUTED
from catid2_jax.errors import InputError
from catid2_jax.files import file_digest
from catid2_jax.progress import console
from catid2_jax.seq2seq.decoder import Decoder
from catid2_jax.seq2seq.source import Source
from catid2_jax.workdir import (
    Workdir,
    check_files,
    first_difference,
    read_record,
    record_path,
    relevant_values,
)

_FREE = ("dropout_rate", "dtype", "remat")
_READING = ("decoder", "extra_ids", "pretrained_encoder", "source_tokens", "word_features")
_ENCODED = (
    *("encoder", "path", "dim", "fields", "with_categories", "field_characters", "max_tokens"),
    "options",
)


def check_earlier(config: Config, system: str) -> None:
    """Checks that there is an earlier stage 2 of the same network and the same form of sources.

    Args:
        config: the system's configuration.
        system: its name.

    Raises:
        InputError: there is none, or it has been made with other settings or another vocabulary.
    """
    root = pathlib.Path(config.seq2seq.continue_from)
    folder = root / system
    record = read_record(record_path(folder, "train_seq2seq"))
    if record is None or not record.done:
        raise InputError(
            "config.seq2seq.continue_from",
            f"{str(root)!r}, with no finished stage 2 of {system!r}",
            "a work directory where that system is trained",
        )
    now = relevant_values(config, ("seq2seq", "t5", "embedding"))
    difference = first_difference(_fixed(record.config), _fixed(now))
    if difference:
        raise InputError(folder, f"a stage 2 that was made with {difference}", "the same")
    if config.t5.memory_tokens or config.seq2seq.pretrained_encoder:
        return
    given = config.seq2seq.vocabulary
    own = record.config["seq2seq"]["vocabulary"] or earlier_vocabulary(root)
    if given and file_digest(pathlib.Path(given)) != file_digest(pathlib.Path(own)):
        raise InputError("config.seq2seq.vocabulary", given, f"what {own} has, or ''")


def _fixed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of recorded values, those that must remain as they were."""
    section = values["seq2seq"]
    embedding = {name: values["embedding"].get(name) for name in _ENCODED}
    if embedding["encoder"] == PRECOMPUTED:  # the vectors of other products are in another file
        del embedding["path"]
    reads_vectors = values["t5"].get("memory_tokens")
    return {
        "t5": {name: value for name, value in values["t5"].items() if name not in _FREE},
        "seq2seq": {name: section.get(name) for name in _READING},
        "embedding": embedding if reads_vectors else {},
    }


def earlier_vocabulary(root: pathlib.Path) -> pathlib.Path:
    """The vocabulary of a work directory.

    Raises:
        InputError: there is none, or it is not as it was left.
    """
    path = Workdir(root).vocabulary
    check_files(record_path(root, "vocabulary"))
    if not path.is_file():
        raise InputError(root, f"no {path.name}", "that of the stage 2 that is to go on")
    return path


def earlier_params(
    folder: pathlib.Path, decoder: Decoder, source: Source, table: DocidTable
) -> Any:
    """The parameters of the earlier stage 2, float32.

    Args:
        folder: has it, and beside it the IDs that it has learnt, if they were written there.
        decoder: the network now.
        source: what it reads.
        table: the IDs now.

    Raises:
        InputError: it has another network, or no product has the ID that it has learnt.
    """
    shapes = jax.eval_shape(lambda: decoder.initialize(jax.random.key(0), source.form))
    params = read_decoder(folder, {name: leaf.shape for name, leaf in flatten(shapes).items()})
    path = folder / "docids.jsonl"
    if path.exists():
        earlier = read_docids(path)
        known = dict(zip(earlier.ids, map(tuple, earlier.codes.tolist()), strict=True))
        now = zip(table.ids, map(tuple, table.codes.tolist()), strict=True)
        kept = sum(known.get(product) == codes for product, codes in now)
        if not kept:
            raise InputError(
                path, "another ID for every product", "IDs that docids.previous has kept"
            )
        console.print(f"{kept:,} of {len(table.ids):,} products have the IDs that {folder} knows")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
