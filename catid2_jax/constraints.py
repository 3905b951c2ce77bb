"""What a field of the configuration may be, said once beside it: checked, and shown by --help.

    batch_size: PositiveInt = 64
    dropout_rate: Annotated[float, at_least(0), less_than(1)] = 0.0
    hidden_dims: tuple[PositiveInt, ...] = (2048, 1024)

A class with such fields calls `check_fields(self)` in its `__post_init__`.
"""

import dataclasses
import math
import numbers
import os
import pathlib
import re
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from catid2_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Constraint:
    """A condition on the values of a field.

    Attributes:
        words: what it asks for, as in "expected at least 1".
        holds: whether a value meets it.
    """

    words: str
    holds: Callable[[Any], bool]


def at_least(least: float) -> Constraint:
    """A number that is not below `least`."""
    return Constraint(f"at least {least}", lambda value: value >= least)


def more_than(bound: float) -> Constraint:
    """A number above `bound`."""
    return Constraint(f"more than {bound}", lambda value: value > bound)


def at_most(most: float) -> Constraint:
    """A number that is not above `most`."""
    return Constraint(f"at most {most}", lambda value: value <= most)


def less_than(bound: float) -> Constraint:
    """A number below `bound`."""
    return Constraint(f"less than {bound}", lambda value: value < bound)


def one_of(choices: Collection[str]) -> Constraint:
    """One of several names."""
    return Constraint(f"one of {', '.join(choices)}", lambda value: value in choices)


PositiveInt: TypeAlias = Annotated[int, at_least(1)]
NonNegativeInt: TypeAlias = Annotated[int, at_least(0)]
PositiveFloat: TypeAlias = Annotated[float, more_than(0)]
NonNegativeFloat: TypeAlias = Annotated[float, at_least(0)]
ShareBelowOne: TypeAlias = Annotated[float, at_least(0), less_than(1)]

Seed: TypeAlias = Annotated[int, at_least(0), at_most(2**32 - 1)]
"""The seeds that JAX tells apart: of larger ones it takes the last 32 bits."""

FileName: TypeAlias = Annotated[
    str,
    Constraint(
        "the name of a file, without a folder",
        lambda name: (
            pathlib.PurePath(name).name == name and name not in ("", "..") and "\0" not in name
        ),
    ),
]

_LOCAL = Constraint(
    # A pathlib.Path has made "gs:/bucket" of "gs://bucket".
    "a local path, not a URL",
    lambda path: not re.match(r"[A-Za-z][\w+.-]+:/", path),
)
LocalPath: TypeAlias = Annotated[str, _LOCAL]
"""A path of this machine's file system: what is read and written takes others for folders."""

BUCKET_URL = re.compile(r"(gs|s3)://([^/]+)(?:/+(.*?))?/*")
"""A folder in a bucket: the kind of the bucket, its name and the path in it, None for all of it."""

Place: TypeAlias = Annotated[
    str,
    Constraint(
        "a local path, gs://BUCKET/PATH or s3://BUCKET/PATH",
        lambda path: bool(BUCKET_URL.fullmatch(path)) or _LOCAL.holds(path),
    ),
]
"""A folder of this machine's file system or of a bucket, see `remote/`."""

UNRECORDED: Mapping[str, bool] = {"recorded": False}
"""Metadata of a field that changes no result: a work directory's records leave it out, so that each
run may have another value."""

_TYPES: Mapping[Any, tuple[Any, str]] = {
    bool: (bool, "True or False"),
    int: (numbers.Integral, "an integer"),
    float: (numbers.Real, "a number"),
    str: (str, "text"),
    tuple: (list | tuple, "a tuple, such as (1, 2)"),
    Mapping: (Mapping, "a dictionary"),
}
"""Type of a field -> what its values are instances of, and the same in words."""


def check_value(value: Any, hint: Any, where: str) -> Any:
    """Checks a value against a field's annotation; types that are not plain ones pass.

    Returns:
        The value in that type: an integer for a float as a float, a list as a tuple.

    Raises:
        InputError: another type, NaN or infinity, or a constraint that does not hold.
    """
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind is Annotated:
        checked = check_value(value, arguments[0], where)
        if not all(constraint.holds(checked) for constraint in arguments[1:]):
            raise InputError(where, repr(value), allowed(hint))
        return checked
    if kind is Literal:
        if value not in arguments:
            raise InputError(where, repr(value), allowed(hint))
        return value
    if (kind or hint) not in _TYPES:
        return value
    accepted, expected = _TYPES[kind or hint]
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise InputError(where, repr(value), expected)
    if kind is tuple:
        return tuple(check_value(item, arguments[0], where) for item in value)
    if hint is float:
        if not math.isfinite(value):
            raise InputError(where, repr(value), "a finite number")
        return float(value)
    return value


def check_local(path: str | os.PathLike[str], where: str) -> pathlib.Path:
    """Returns a path of this machine's file system.

    Raises:
        InputError: a URL, such as of a bucket.
    """
    return pathlib.Path(check_value(os.fspath(path), LocalPath, where))


def check_fields(section: Any) -> None:
    """Checks all fields of a dataclass's instance.

    Raises:
        InputError: a value that `check_value` refuses; its place is the field's name.
    """
    for name, hint in field_hints(type(section)).items():
        check_value(getattr(section, name), hint, name)


def field_hints(section: Any) -> dict[str, Any]:
    """Name of each field of a class, or of each argument of a function -> its annotation."""
    return typing.get_type_hints(section, include_extras=True)


def allowed(hint: Any) -> str:
    """What an annotation allows beyond its type, in words; empty if everything."""
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind is Annotated:
        words = (allowed(arguments[0]), *(constraint.words for constraint in arguments[1:]))
        return " and ".join(filter(None, words))
    if kind is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if kind is tuple and allowed(arguments[0]):
        return f"each {allowed(arguments[0])}"
    return ""
