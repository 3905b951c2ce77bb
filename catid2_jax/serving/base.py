"""A bundle or a finished work directory, loaded to be served, and the name of what it is."""

import dataclasses
import pathlib

from catid2_jax import api
from catid2_jax.bundle import is_bundle, read_bundle
from catid2_jax.errors import InputError
from catid2_jax.files import values_digest
from catid2_jax.records import read_record
from catid2_jax.retrievers.product_retriever import ProductRetriever
from catid2_jax.serving.config import ServeConfig
from catid2_jax.serving.dense import Dense, load_dense

_NAMED = 12  # letters of a version's name


@dataclasses.dataclass(frozen=True)
class Base:
    """A bundle or work directory as it was loaded.

    Attributes:
        name: what tells it from every other one; the same everywhere for the same files.
        retriever: its retriever.
        dense: the products' embeddings, where clusters are asked for.
    """

    name: str
    retriever: ProductRetriever
    dense: Dense | None = None


def load_base(path: pathlib.Path, config: ServeConfig) -> Base:
    """Loads what is to be served.

    Raises:
        InputError: it is neither, is not finished, or has a part that does not belong to it.
    """
    settings = {"beams": config.beams} if config.beams else {}
    retriever = api.load(path, config.system, **settings)
    dense = load_dense(path, config.system) if config.cluster_level else None
    return Base(_name(path, retriever.name), retriever, dense)


def _name(path: pathlib.Path, system: str) -> str:
    """The digest of all that a bundle or the records of the steps say of their files."""
    if is_bundle(path):
        return values_digest(read_bundle(path))[:_NAMED]
    records = {}
    for record in sorted(path.glob("steps/*.json")) + sorted(path.glob(f"{system}/steps/*.json")):
        try:
            found = read_record(record)
        except InputError:  # figures of a step
            continue
        if found is not None:
            records[record.relative_to(path).as_posix()] = (found.config, found.files)
    return values_digest(records)[:_NAMED]
