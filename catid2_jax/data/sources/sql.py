"""Reads products that a SQL query selects from files, a DuckDB or an SQLite database."""

import contextlib
import dataclasses
import pathlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from catid2_jax.constraints import LocalPath
from catid2_jax.data.ids import id_of_number
from catid2_jax.data.sources.columns import ColumnMap, mapped_source
from catid2_jax.data.sources.dataset import Source
from catid2_jax.data.sources.reading import BATCH_ROWS, reading, require_columns
from catid2_jax.errors import InputError
from catid2_jax.progress import console

_SQLITE_SUFFIXES = (".sqlite", ".sqlite3", ".db")
_SEPARATED = tuple(f"{kind}{packed}" for kind in (".csv", ".tsv") for packed in ("", ".gz", ".zst"))
_GUESSING = re.compile(r"\bread_csv|\.(csv|tsv)\b", re.IGNORECASE)
_RESULT = "the query's result"


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
    database: LocalPath = ""


def read_sql(config: SqlConfig) -> list[Source]:
    """Reads what a query selects. SQLite needs no further package, anything else needs duckdb.

    Raises:
        InputError: while iterating, if the package `duckdb` is missing, the query fails, or its
            result lacks a column.
    """
    sqlite = config.database.endswith(_SQLITE_SUFFIXES)
    batches = _sqlite_batches(config) if sqlite else _duckdb_batches(config)
    return [mapped_source(batches, config, _RESULT)]


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
            _keep_ids_text(connection, config)
            result = connection.sql(config.query)
            require_columns(config.names, result.columns if result else (), _RESULT)
            _refuse_json(result, (config.id, config.title))
            kind = str(result.types[result.columns.index(config.id)])
            if kind != "VARCHAR" and _GUESSING.search(config.query):
                console.print(
                    f"the column {config.id!r} came as {kind}: if DuckDB guessed that from a file, "
                    "zeros at the ends of ids are lost; read_csv(..., all_varchar = true) keeps "
                    "them"
                )
            yield from result.to_arrow_reader(BATCH_ROWS)
    except (duckdb.Error, pa.ArrowException, OSError) as error:  # Arrow says OSError of DuckDB's
        raise _failed(error) from error


def _refuse_json(result: Any, names: Sequence[str]) -> None:
    """Raises InputError for a column of JSON, whose texts are in quotes: values of several types.

    Args:
        result: DuckDB's.
        names: of the columns that may be none.
    """
    for name, kind in zip(result.columns, map(str, result.types), strict=True):
        if name in names and kind == "JSON":
            raise InputError(
                _RESULT, f"column {name!r} of type JSON", f"text: {name} ->> '$' AS {name}"
            )


def _sqlite_batches(config: SqlConfig) -> Iterator[pa.RecordBatch]:
    path = pathlib.Path(config.database).resolve()
    with reading(path):
        try:
            uri = f"{path.as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
                cursor = connection.execute(config.query)
                names = [column[0] for column in cursor.description or ()]
                require_columns(config.names, names, _RESULT)
                first_row = 1
                while rows := cursor.fetchmany(BATCH_ROWS):
                    columns = [
                        _texts(column, name, name == config.id, first_row)
                        for column, name in zip(zip(*rows, strict=True), names, strict=True)
                        if name in config.names
                    ]
                    first_row += len(rows)
                    kept = [name for name in names if name in config.names]
                    yield pa.RecordBatch.from_arrays(columns, kept)
        except sqlite3.Error as error:
            raise _failed(error) from error


def _keep_ids_text(connection: Any, config: SqlConfig) -> None:
    """Makes a view of each file of separated values that the query names, its ids typed as text.

    DuckDB guesses a column's type from its first rows, and as numbers "007" and "90.750" would lose
    what makes them ids.
    """
    names = rf'(?:(\w+)|"([^"]+)")\s+(?:AS\s+)?"?{re.escape(config.id)}\b'
    found = re.findall(names, config.query, re.IGNORECASE)
    wanted = {config.id.lower(), *("".join(pair).lower() for pair in found)}
    for table in connection.get_table_names(config.query):
        if table.lower().endswith(_SEPARATED):
            path = "'" + table.replace("'", "''") + "'"
            described = connection.execute(f"DESCRIBE SELECT * FROM read_csv({path})").fetchall()
            ids = [row[0].replace("'", "''") for row in described if row[0].lower() in wanted]
            types = ", ".join(f"'{name}': 'VARCHAR'" for name in ids)
            view = '"' + table.replace('"', '""') + '"'
            options = f", types = {{{types}}}" if ids else ""
            connection.execute(
                f"CREATE TEMP VIEW {view} AS SELECT * FROM read_csv({path}{options})"
            )


def _texts(column: tuple[object, ...], name: str, is_id: bool, first_row: int) -> pa.Array:
    """Returns the values as text, because SQLite types each value, not the column.

    Raises:
        InputError: with its row, a number that is no id exactly, or bytes that are not UTF-8.
    """
    texts: list[str | None] = []
    for row, value in enumerate(column, first_row):
        place = f"{_RESULT}: row {row}, column {name!r}"
        try:
            if isinstance(value, bytes):
                texts.append(value.decode())
            elif is_id and isinstance(value, float):
                texts.append(id_of_number(value))
            else:
                texts.append(None if value is None else str(value))
        except UnicodeDecodeError as error:
            raise InputError(place, f"the bytes {value!r:.60}", "UTF-8") from error
        except InputError as error:
            raise error.within(place) from error
    return pa.array(texts, pa.string())


def _failed(error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError("query", f"{reason:.200}", "a query that runs")
