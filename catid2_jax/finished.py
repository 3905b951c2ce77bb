"""A finished work directory: its systems, and the configuration that its records hold."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from catid2_jax.config import Config, as_nested_dict, build, put_value
from catid2_jax.errors import InputError
from catid2_jax.records import choose_system, systems_in
from catid2_jax.resolution import ResolvedSystem, resolve_system
from catid2_jax.workdir import (
    Place,
    Record,
    Workdir,
    check_artefacts,
    place_of,
    read_record,
    record_path,
)


def find_system(
    root: pathlib.Path, system: str, retrieve: Mapping[str, Any]
) -> tuple[Config, Place, ResolvedSystem]:
    """A system of a work directory: its recorded configuration, where it lies, and what it is.

    Args:
        root: the work directory.
        system: its name; empty for the one that `records.choose_system` takes.
        retrieve: fields of `RetrieveConfig` to change.

    Raises:
        InputError: there is no such system, or see `recorded_config`.
    """
    steps = ["prepare"] if systems_in(root) else ["prepare", "embed", "docids"]
    for step in steps:
        check_finished(root, root, step)
    name = choose_system(root, system, ("train_seq2seq", "retrieve"))
    records = _records(root, name)
    config = recorded_config(records, root, retrieve)
    entry = next(iter(records.values())).system
    resolved = resolve_system(entry, config)
    place = place_of(resolved, config, Workdir(root))
    # The recorded configuration is the system's own, so that it cannot tell whose vectors it has.
    own = root / resolved.plain_name
    has_own = record_path(own, "embed").exists()
    return config, dataclasses.replace(place, vectors=own if has_own else root), resolved


def check_made(system: ResolvedSystem, place: Place) -> None:
    """Raises InputError unless all that a system searches with is there, as its steps left it."""
    root = place.workdir.root
    if system.needs_embeddings and not system.parts:
        check_finished(root, place.vectors, "embed")
    if system.is_trained:
        check_finished(root, place.model, "docids")
        check_finished(root, place.model, "train_seq2seq")
    if system.has_towers:
        check_finished(root, place.folder, "train_towers")
    check_artefacts(place, "retrieve")


def check_finished(root: pathlib.Path, folder: pathlib.Path, step: str) -> None:
    """Raises InputError unless a step of a work directory is done."""
    record = read_record(record_path(folder, step))
    if record is None or not record.done:
        of_system = "" if folder == root else f" of system {folder.name}"
        raise InputError(
            root,
            f"no finished step {step}{of_system}",
            "a finished work directory: run the same command again",
        )


def _records(root: pathlib.Path, system: str) -> dict[str, Record]:
    """Step -> record, of the steps of one system."""
    found = {}
    for step in ("docids", "train_seq2seq", "train_towers", "retrieve"):
        record = read_record(record_path(root / system, step))
        if record is not None:
            found[step] = record
    return found


_SEARCH = ("beams", "max_beams", "normalize_over", "param_dtype", "checkpoint", "batch_size")
"""The fields of `RetrieveConfig` that a retriever of products goes by."""


def recorded_config(
    steps: Mapping[str, Record], root: pathlib.Path, retrieve: Mapping[str, Any]
) -> Config:
    """The configuration that the records of a work directory's steps hold.

    Args:
        steps: the records of a system's steps by name.
        root: the work directory.
        retrieve: fields of `RetrieveConfig` to change.

    Raises:
        InputError: a field that a search does not go by, or a record with a value that is not
            allowed.
    """
    shared = [read_record(record_path(root, step)) for step in ("prepare", "embed")]
    values = as_nested_dict(Config())
    for record in (*filter(None, shared), *steps.values()):
        for path, value in record.config.items():
            if path != "contents of files":
                put_value(values, path.split("."), value)
    unknown = sorted(set(retrieve) - set(_SEARCH))
    if unknown:
        raise InputError("load", f"the setting {unknown[0]!r}", f"some of {', '.join(_SEARCH)}")
    # k is the step's and no search's, and may be above the beams that are asked for.
    values["retrieve"] = {**values["retrieve"], **retrieve, "k": 1}
    return build(Config, values, "config")
