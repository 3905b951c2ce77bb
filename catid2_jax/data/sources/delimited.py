"""Reads products from CSV or TSV."""

import dataclasses

from catid2_jax.constraints import LocalPath
from catid2_jax.data.sources.columns import ColumnMap, mapped_source
from catid2_jax.data.sources.dataset import Source
from catid2_jax.data.sources.reading import Quoting, check_quoting, csv_batches
from catid2_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class CsvConfig(ColumnMap):
    """A file of separated values with a header, plain or compressed (.gz, .zst).

    Attributes:
        path: the file.
        delimiter: one character, or "tab".
        encoding: the file's encoding under Python's name for it, such as latin-1 or cp1252.
        quoting: "rfc4180" for cells that may be quoted; "none" where quotes are letters, such as
            inch marks; "auto" for RFC 4180, but refusing a cell of several lines of which each by
            itself would be a row.

    Raises:
        InputError: a delimiter that is neither one character nor "tab", an unknown `quoting`, or
            see `ColumnMap`.
    """

    path: LocalPath
    delimiter: str = ","
    encoding: str = "utf-8"
    quoting: Quoting = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delimiter != "tab" and len(self.delimiter) != 1:
            raise InputError("delimiter", repr(self.delimiter), "one character or 'tab'")
        check_quoting(self.quoting)


def read_csv(config: CsvConfig) -> list[Source]:
    """Reads a file of separated values.

    Raises:
        InputError: any error of `csv_batches` (while iterating) or of `read_judgements`.
    """
    delimiter = "\t" if config.delimiter == "tab" else config.delimiter
    batches = csv_batches(
        config.path, config.names, delimiter, config.encoding, quoting=config.quoting
    )
    return [mapped_source(batches, config, config.path, config.encoding)]
