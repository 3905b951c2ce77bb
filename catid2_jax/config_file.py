"""A configuration as a file gives it and as a command line changes it."""

import ast
import dataclasses
import importlib.util
import pathlib
import traceback
import typing
from typing import Any

from ml_collections import ConfigDict

from catid2_jax.config import Config
from catid2_jax.errors import InputError

BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
"""Text -> truth value, in lower case."""


def load_config(path: pathlib.Path, argument: str = "") -> ConfigDict:
    """What a file's `get_config` returns.

    Args:
        path: the file.
        argument: what `get_config` is called with; empty for nothing.

    Raises:
        InputError: no `get_config`, one that returns something else, or one that fails, with its
            line.
    """
    spec = importlib.util.spec_from_file_location("configuration", path)
    if spec is None or spec.loader is None:
        raise InputError(path, "no Python file", "a configuration")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(*filter(None, [argument]))
    except InputError:
        raise
    except Exception as error:  # whatever the file does
        lines = [
            s.lineno for s in traceback.extract_tb(error.__traceback__) if s.filename == spec.origin
        ]
        where = ":".join(map(str, (path, *lines[-1:])))
        reason = f"{type(error).__name__}: {error}"
        raise InputError(where, reason, "a get_config() that returns a ConfigDict") from error
    if not isinstance(config, ConfigDict):
        raise InputError(path, f"{type(config).__name__} from get_config()", "a ConfigDict")
    return config


def override(config: ConfigDict, path: str, text: str | None) -> None:
    """Sets one field; what it may be, and whether there is such a field, `freeze` checks.

    Args:
        config: what is changed.
        path: of the field, as in "rqvae.levels".
        text: its value as the command line has it; None for a field without one, which is True.
    """
    *sections, name = path.split(".")
    section, hints = config, typing.get_type_hints(Config)
    with config.unlocked(), config.ignore_type():
        for part in sections:
            if not isinstance(section.get(part), ConfigDict):
                section[part] = ConfigDict()
            section, hints = section[part], _hints_of(hints.get(part))
        hint = hints.get(name, type(section.get(name)))
        section[name] = True if text is None else _read(text, hint)


def _hints_of(section: Any) -> dict[str, Any]:
    """Types of a section's fields; none for a mapping."""
    return typing.get_type_hints(section) if isinstance(section, type) else {}


def _read(text: str, hint: Any) -> Any:
    """The value that `text` stands for in a field of a type; the text itself if it is none."""
    if hint is str or dataclasses.is_dataclass(hint) or typing.get_origin(hint) is typing.Literal:
        return text
    if hint is bool:
        return BOOLEANS.get(text.lower(), text)
    try:
        value = float(text) if hint is float else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if typing.get_origin(hint) is tuple and not isinstance(value, tuple | list):
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else (value,)
    return value
