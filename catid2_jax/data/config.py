"""Which data, and the paper's preprocessing of it: the configuration's section `data`."""

import dataclasses
from typing import Literal

from catid2_jax.constraints import Place
from catid2_jax.data.preprocessing import PreprocessingConfig
from catid2_jax.data.synthetic import SyntheticConfig
from catid2_jax.errors import InputError
from catid2_jax.remote.mirror import fetched_file

SPLITS = ("train", "dev", "test")
FILES = ("catalog", *(f"{split}_{kind}" for split in SPLITS for kind in ("queries", "qrels")))
"""The fields of `DataConfig` that are files."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data, and the paper's preprocessing of it.

    Attributes:
        catalog: the products, as JSON Lines (may be gzipped) or Parquet; empty for the built-in
            synthetic catalogue, and then all other paths must be empty too. All may be in a bucket,
            gs://BUCKET/PATH or s3://BUCKET/PATH.
        train_queries: the training queries, JSON Lines with `id` and `text`.
        train_qrels: judgements of the training queries, in TREC's form.
        dev_queries: the queries that training is watched by; may be empty.
        dev_qrels: judgements of the dev queries; may be empty.
        test_queries: the queries that results are reported for.
        test_qrels: judgements of the test queries.
        on_error: "raise" stops at the first bad record of the catalogue; "skip" sets bad records
            aside in `data/rejected.jsonl` of the work directory and counts them.
        preprocessing: what is kept, see `PreprocessingConfig`.
        synthetic: size of the built-in catalogue, see `SyntheticConfig`.
    """

    catalog: Place = ""
    train_queries: Place = ""
    train_qrels: Place = ""
    dev_queries: Place = ""
    dev_qrels: Place = ""
    test_queries: Place = ""
    test_qrels: Place = ""
    on_error: Literal["raise", "skip"] = "raise"
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    synthetic: SyntheticConfig = SyntheticConfig()

    def __post_init__(self) -> None:
        for split in SPLITS:
            for name in (f"{split}_queries", f"{split}_qrels"):
                value = getattr(self, name)
                if value and not self.catalog:
                    raise InputError("catalog", "''", f"a path, since {name} is given")
                if self.catalog and not value and split != "dev":
                    raise InputError(name, "''", "a path, since catalog is given")
        if bool(self.dev_queries) != bool(self.dev_qrels):
            empty = "dev_qrels" if self.dev_queries else "dev_queries"
            raise InputError(empty, "''", "both of dev_queries and dev_qrels, or neither")

    def fetched(self) -> "DataConfig":
        """The same with files of this machine: a copy of what is in a bucket.

        Raises:
            InputError: there is no such object, or the bucket cannot be read.
        """
        files = {name: fetched_file(getattr(self, name)) for name in FILES}
        return dataclasses.replace(self, **files)  # type: ignore[arg-type]
