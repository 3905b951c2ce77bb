"""Reads products from a data set of the Hugging Face hub, or from one saved by its library."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from catid2_jax.constraints import LocalPath
from catid2_jax.data.sources.columns import ColumnMap, mapped_source
from catid2_jax.data.sources.dataset import Source
from catid2_jax.data.sources.reading import BATCH_ROWS, require_columns
from catid2_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuggingFaceConfig(ColumnMap):
    """A data set of the hub, or one on disk.

    Attributes:
        dataset: name on the hub, or a folder that `save_to_disk` wrote.
        subset: name of the data set's configuration on the hub; empty if it has only one.
        split: name of the split to read.
    """

    dataset: LocalPath
    subset: str = ""
    split: str = "train"


def read_huggingface(config: HuggingFaceConfig) -> list[Source]:
    """Reads a data set; one of the hub is streamed.

    Raises:
        InputError: while iterating, if the package `datasets` is missing, there is no such data
            set, or it lacks a column.
    """
    return [mapped_source(_batches(config), config, config.dataset)]


def _batches(config: HuggingFaceConfig) -> Iterator[pa.RecordBatch]:
    try:
        dataset = _load(config)
        names = dataset.column_names or list(next(iter(dataset), {}))  # a stream may not know them
        require_columns(config.names, names, config.dataset)
        selected = dataset.select_columns(list(config.names)).with_format("arrow")
        for table in selected.iter(BATCH_ROWS):
            yield from table.combine_chunks().to_batches()
    except InputError:  # is a ValueError, but says what is wrong
        raise
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            config.dataset, f"{reason:.200}", f"a data set with split {config.split!r}"
        ) from error


def _load(config: HuggingFaceConfig) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "", "no package datasets", "it for Hugging Face: pip install 'catid2_jax[data]'"
        ) from error
    if pathlib.Path(config.dataset).is_dir():
        saved = datasets.load_from_disk(config.dataset)
        return saved[config.split] if isinstance(saved, datasets.DatasetDict) else saved
    return datasets.load_dataset(
        config.dataset, config.subset or None, split=config.split, streaming=True
    )
