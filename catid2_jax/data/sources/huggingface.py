"""Products in a data set of the Hugging Face hub, or in one saved by its library."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from catid2_jax.data.sources.columns import ColumnMap, mapped_source
from catid2_jax.data.sources.dataset import Source
from catid2_jax.data.sources.reading import BATCH_ROWS, require_columns
from catid2_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuggingFaceConfig(ColumnMap):
    """A data set by name.

    Attributes:
        dataset: its name on the hub, or a folder that `save_to_disk` wrote.
        subset: which of its configurations; empty where it has one only.
        split: which of its splits.
    """

    dataset: str
    subset: str = ""
    split: str = "train"


def read_huggingface(config: HuggingFaceConfig) -> list[Source]:
    """Reads a data set, streamed from the hub.

    Raises:
        InputError: the package is missing, there is no such data set, or it lacks a column (while
            iterating).
    """
    return [mapped_source(_batches(config), config)]


def _batches(config: HuggingFaceConfig) -> Iterator[pa.RecordBatch]:
    try:
        dataset = _load(config)
        names = dataset.column_names or list(next(iter(dataset), {}))  # a stream may not know them
        require_columns(config.names, names, config.dataset)
        selected = dataset.select_columns(list(config.names)).with_format("arrow")
        for table in selected.iter(BATCH_ROWS):
            yield from table.combine_chunks().to_batches()
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{config.dataset}: found {reason:.200}, expected a data set with split "
            f"{config.split!r}"
        ) from error


def _load(config: HuggingFaceConfig) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "found no package datasets, expected it for Hugging Face: "
            "pip install 'catid2_jax[data]'"
        ) from error
    if pathlib.Path(config.dataset).is_dir():
        saved = datasets.load_from_disk(config.dataset)
        return saved[config.split] if isinstance(saved, datasets.DatasetDict) else saved
    return datasets.load_dataset(
        config.dataset, config.subset or None, split=config.split, streaming=True
    )
