"""Sets of data in folders: `catalog.jsonl`, `queries.SPLIT.jsonl`, `qrels.SPLIT.txt`."""

import dataclasses
import pathlib

from catid2_jax.config import Config, as_nested_dict, build
from catid2_jax.data.config import SPLITS, DataConfig
from catid2_jax.encoders.config import PRECOMPUTED, EmbeddingConfig
from catid2_jax.errors import InputError

CATALOGS = ("catalog.jsonl", "catalog.jsonl.gz", "catalog.parquet")


def with_set(config: Config, folder: pathlib.Path, vectors: str = "") -> Config:
    """The configuration with the files of a folder as its data; those of dev may be missing.

    Args:
        config: the rest of it.
        folder: has the files, each perhaps compressed (`.gz`).
        vectors: name of the given vectors `catalog.NAME.npy` and `queries.SPLIT.NAME.npy`; empty
            for the configuration's encoder.

    Raises:
        InputError: a file is missing.
    """
    files = {"catalog": _find(folder, *CATALOGS)}
    given = {}
    if vectors:
        given = {"encoder": PRECOMPUTED, "path": _find(folder, f"catalog.{vectors}.npy")}
    for split in SPLITS:
        names = {"queries": f"queries.{split}.jsonl", "qrels": f"qrels.{split}.txt"}
        if split == "dev" and not any(_there(folder, name) for name in names.values()):
            files |= {"dev_queries": "", "dev_qrels": ""}
            continue
        for kind, name in names.items():
            files[f"{split}_{kind}"] = _find(folder, name, f"{name}.gz")
        if vectors:
            given[f"{split}_query_vectors"] = _find(folder, f"queries.{split}.{vectors}.npy")
    data = build(DataConfig, as_nested_dict(config.data) | files, "config.data")
    embedding = as_nested_dict(config.embedding) | given
    return dataclasses.replace(
        config, data=data, embedding=build(EmbeddingConfig, embedding, "config.embedding")
    )


def set_name(config: Config) -> str:
    """What the configured data are called: the catalogue's folder."""
    path = config.data.catalog
    return pathlib.Path(path).resolve().parent.name if path else "synthetic"


def _there(folder: pathlib.Path, name: str) -> bool:
    return (folder / name).is_file() or (folder / f"{name}.gz").is_file()


def _find(folder: pathlib.Path, *names: str) -> str:
    """The first of several files that is there."""
    for name in names:
        if (folder / name).is_file():
            return str(folder / name)
    raise InputError(folder, f"no {names[0]}", f"{' or '.join(names)} in it")
