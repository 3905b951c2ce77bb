"""Values that JSON has in the place of those that it has not: dates, decimals, NaN, bytes."""

import datetime
import decimal
import math
import uuid
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


class NoJsonError(ValueError):
    """A value that JSON cannot hold in any form."""


def json_value(value: Any) -> Any:
    """Returns a value as JSON can hold it.

    Dates, times and decimals become text, NaN (a missing number) becomes None, bytes become their
    UTF-8 text; lists and mappings are converted inside.

    Raises:
        NoJsonError: infinity, bytes that are not UTF-8, or a value of another type.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isinf(value):
            raise NoJsonError(str(value))
        return None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {str(name): json_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID | datetime.timedelta):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise NoJsonError("bytes") from error
    raise NoJsonError(type(value).__name__)


def column_values(column: pa.Array) -> list[Any]:
    """Returns the values of an Arrow column as Python has them, dates and times as text.

    Arrow's own conversion refuses times of nanoseconds and years beyond 9999.

    Raises:
        NoJsonError: Python has no such values.
    """
    try:
        if pa.types.is_temporal(column.type) and not pa.types.is_duration(column.type):
            column = pc.cast(column, pa.string())
        return column.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise NoJsonError(str(column.type)) from error
