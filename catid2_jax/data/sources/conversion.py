"""Converts columns of any type to text, ids and category paths, or says which column cannot be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catid2_jax.data.ids import LARGEST_EXACT, canonical_id, id_of_number
from catid2_jax.errors import InputError

_ALL_DECIMALS = 10**38
_PLAIN_ID = "^[A-Za-z0-9_-]*$"  # what `canonical_id` leaves as it is
_NAME = "name"  # the field of a category that is a struct, as in BestBuy's `categoryPath`


def as_text(column: pa.Array, name: str, where: object, first_row: int = 1) -> pa.Array:
    """Converts a column to text.

    Args:
        column: text, bytes in UTF-8, numbers, dates or lists of these (whose items are joined by a
            space), [rows].
        name: the column's name, for errors.
        where: the file or the like that it is of, for errors.
        first_row: number of its first row there.

    Returns:
        string [rows]; null where the value is null or NaN, by which data frames mean the same.

    Raises:
        InputError: a column of another type, or bytes that are not UTF-8.
    """
    column = _decoded(column)
    kind = column.type
    if _is_list(kind):
        if pa.types.is_nested(_decoded_type(kind.value_type)):
            raise _refused(column, name, where, "text, numbers, dates or lists of these")
        items = as_text(pc.list_flatten(column), name, where)
        joined = pc.binary_join(_lists(column, items), " ")
        return pc.if_else(column.is_null(), pa.scalar(None, pa.string()), joined)
    if _is_binary(kind):
        return _by_value(column, bytes.decode, name, where, first_row, "UTF-8")
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    try:
        return pc.cast(column, pa.string())
    except pa.ArrowException as error:
        expected = "text, numbers, dates or lists of these"
        raise _refused(column, name, where, expected) from error


def as_ids(column: pa.Array, name: str, where: object, first_row: int = 1) -> pa.Array:
    """Converts a column to ids in the one form that catalogues and judgements share.

    Args:
        column: text, bytes in UTF-8 or numbers, [rows].
        name: the column's name, for errors.
        where: the file or the like that it is of, for errors.
        first_row: number of its first row there.

    Returns:
        string [rows], each as `canonical_id` has it; null where there is none.

    Raises:
        InputError: a column of another type; with its row, an id with white space inside, or a
            number that is no id exactly.
    """
    column = _decoded(column)
    kind = column.type
    if pa.types.is_floating(kind):
        largest = min(LARGEST_EXACT, 2 ** (np.finfo(kind.to_pandas_dtype()).nmant + 1) - 1)
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        return _by_value(column, lambda x: id_of_number(x, largest), name, where, first_row)
    if pa.types.is_decimal(kind):
        return _by_value(column, lambda x: id_of_number(x, _ALL_DECIMALS), name, where, first_row)
    if pa.types.is_boolean(kind) or pa.types.is_temporal(kind) or pa.types.is_nested(kind):
        raise _refused(column, name, where, "ids as text or whole numbers")
    texts = as_text(column, name, where, first_row)
    if not pa.types.is_integer(kind):
        odd = pc.fill_null(pc.invert(pc.match_substring_regex(texts, _PLAIN_ID)), False)
        if pc.any(odd).as_py():
            texts = _by_value(texts, canonical_id, name, where, first_row)
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def as_raw_cells(column: pa.Array, name: str, where: object) -> pa.Array:
    """Converts a column of category cells to text, unless its values are nested."""
    column = _decoded(column)
    return column if pa.types.is_nested(column.type) else as_text(column, name, where)


def as_category_cells(column: pa.Array, name: str, where: object) -> pa.Array:
    """Converts a column of categories, which has a path or a single name in a row.

    Args:
        column: lists of names, lists of structs with a field `name`, or what `as_text` takes but
            no lists, [rows].
        name: the column's name, for errors.
        where: the file or the like that it is of, for errors.

    Returns:
        list<string> [rows] of lists, or else string [rows].

    Raises:
        InputError: a column of another type, such as lists of lists, or bytes that are not UTF-8.
    """
    column = _decoded(column)
    if not _is_list(column.type):
        return as_text(column, name, where)
    names = _decoded(pc.list_flatten(column))
    kind = names.type
    if pa.types.is_struct(kind) and kind.get_field_index(_NAME) >= 0:
        names = _decoded(pc.struct_field(names, _NAME))
    if pa.types.is_nested(names.type):
        expected = "text, lists of names, or lists of structs with a field 'name'"
        raise _refused(column, name, where, expected)
    return _lists(column, pc.fill_null(as_text(names, name, where), ""))  # an empty level


def _decoded(column: Any) -> pa.Array:
    """The values themselves, whatever way they are encoded."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column.type, pa.BaseExtensionType):
        if column.type.extension_name == "arrow.uuid":
            return pa.array([x and str(x) for x in column.to_pylist()], pa.string())
        return _decoded(column.storage)
    if pa.types.is_dictionary(column.type):
        return _decoded(column.dictionary_decode())
    if pa.types.is_run_end_encoded(column.type):
        return _decoded(pc.run_end_decode(column))
    return column


def _decoded_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    of_any_length = types.is_list(kind) or types.is_large_list(kind)
    views = types.is_list_view(kind) or types.is_large_list_view(kind)
    return bool(of_any_length or views or types.is_fixed_size_list(kind))


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _lists(column: pa.Array, items: pa.Array) -> pa.Array:
    """The lists of `column` with `items` in the place of theirs, and without those that are null.

    A null list becomes an empty one.
    """
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    kept = np.concatenate([[0], np.cumsum(items.is_valid().to_numpy(zero_copy_only=False))])
    offsets = kept[np.concatenate([[0], np.cumsum(lengths)])]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items.drop_null())


def _by_value(
    column: pa.Array,
    convert: Callable[[Any], str],
    name: str,
    where: object,
    first_row: int,
    expected: str = "",
) -> pa.Array:
    """Converts value by value; the row of one that cannot be converted is named."""
    found = []
    for row, value in enumerate(column.to_pylist(), first_row):
        try:
            found.append(None if value is None else convert(value))
        except InputError as error:
            place = f"{where}: row {row}, column {name!r}"
            raise InputError(place, error.found, error.expected) from error
        except UnicodeDecodeError as error:
            place = f"{where}: row {row}, column {name!r}"
            raise InputError(place, f"the bytes {value!r:.60}", expected) from error
    return pa.array(found, pa.string())


def _refused(column: pa.Array, name: str, where: object, expected: str) -> InputError:
    return InputError(where, f"column {name!r} of type {column.type}", expected)
