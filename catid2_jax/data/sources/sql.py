"""Reads products that a SQL query selects from files, a DuckDB or an SQLite database."""

import contextlib
import dataclasses
import pathlib
import sqlite3
from collections.abc import Iterator

import pyarrow as pa

from catid2_jax.data.sources.columns import ColumnMap, mapped_source
from catid2_jax.data.sources.dataset import Source
from catid2_jax.data.sources.reading import BATCH_ROWS, reading, require_columns
from catid2_jax.errors import InputError

_SQLITE_SUFFIXES = (".sqlite", ".sqlite3", ".db")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SqlConfig(ColumnMap):
    """A query whose result has the columns named.

    Attributes:
        query: the SQL text. DuckDB runs it unless the database is SQLite's, and can read files
            even without a database: "FROM 'shop/*.csv'".
        database: .duckdb file, or .sqlite, .sqlite3 or .db file of SQLite, opened read-only; empty
            for none. Other databases are opened by DuckDB's extensions (see its ATTACH).
    """

    query: str
    database: str = ""


def read_sql(config: SqlConfig) -> list[Source]:
    """Reads what a query selects. SQLite needs no further package, anything else needs duckdb.

    Raises:
        InputError: while iterating, if the package `duckdb` is missing, the query fails, or its
            result lacks a column.
    """
    sqlite = config.database.endswith(_SQLITE_SUFFIXES)
    batches = _sqlite_batches(config) if sqlite else _duckdb_batches(config)
    return [mapped_source(batches, config)]


def _duckdb_batches(config: SqlConfig) -> Iterator[pa.RecordBatch]:
    try:
        import duckdb
    except ImportError as error:
        raise InputError(
            "", "no package duckdb", "it for SQL: pip install 'catid2_jax[data]'"
        ) from error
    try:
        read_only = bool(config.database)
        with duckdb.connect(config.database or ":memory:", read_only=read_only) as connection:
            result = connection.sql(config.query)
            require_columns(config.names, result.columns if result else (), "the query's result")
            yield from result.to_arrow_reader(BATCH_ROWS)
    except duckdb.Error as error:
        raise _failed(error) from error


def _sqlite_batches(config: SqlConfig) -> Iterator[pa.RecordBatch]:
    path = pathlib.Path(config.database).resolve()
    with reading(path):
        try:
            uri = f"{path.as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
                cursor = connection.execute(config.query)
                names = [column[0] for column in cursor.description or ()]
                require_columns(config.names, names, "the query's result")
                while rows := cursor.fetchmany(BATCH_ROWS):
                    columns = [_texts(column) for column in zip(*rows, strict=True)]
                    yield pa.RecordBatch.from_arrays(columns, names)
        except sqlite3.Error as error:
            raise _failed(error) from error


def _texts(column: tuple[object, ...]) -> pa.Array:
    """Returns the values as text, because SQLite types each value, not the column."""
    return pa.array([None if value is None else str(value) for value in column], pa.string())


def _failed(error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError("query", f"{reason:.200}", "a query that runs")
