"""A configuration as a file gives it and as a command line changes it."""

import importlib.util
import pathlib
import re
import traceback
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from catid2_jax.config import unknown_field
from catid2_jax.errors import InputError


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


def override(config: ConfigDict, words: Sequence[str]) -> list[str]:
    """Changes fields as flags `--config.<field>=value` say.

    Whether there is such a field, and whether it may have the value, `freeze` checks.

    Args:
        config: what is changed.
        words: a command line, the program's name first.

    Returns:
        The words that are no flags.

    Raises:
        InputError: another flag, a section that there is not, or a value of another type.
    """
    for word in words:
        found = re.match(r"--?(config\.[\w.]+)", word)
        if found:
            _check_path(config, found[1])
    parser = flags.FlagValues()
    parser.set_gnu_getopt(True)
    try:
        config_flags.DEFINE_config_dict(
            "config",
            config,
            flag_values=parser,
            sys_argv=list(words),
            lock_config=False,
            accept_new_attributes=True,
        )
        return parser(list(words))[1:]
    except flags.Error as error:
        raise flag_error(error) from error
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise InputError("command line", error, "fields as --help lists them") from error


def _check_path(config: ConfigDict, path: str) -> None:
    """Raises InputError unless a path's sections are there; a plug-in's options are made."""
    _, *sections, _ = path.split(".")
    if sections[:1] == ["options"] and len(sections) == 2 and sections[1] not in config.options:
        config.options[sections[1]] = ConfigDict()  # there are no defaults here
    value: Any = config
    for section in sections:
        value = value.get(section) if isinstance(value, ConfigDict) else None
    if not isinstance(value, ConfigDict):
        raise unknown_field(path)


def flag_error(error: flags.Error) -> InputError:
    """What absl says of a command line, by where it is wrong."""
    if isinstance(error, flags.UnrecognizedFlagError):
        return InputError("command line", f"the flag --{error.flagname}", "one that --help lists")
    missing = re.fullmatch(r"Missing value for flag (--[\w.]+)", str(error))
    if missing:
        return InputError(missing[1], "no value", f"{missing[1]}=...")
    wrong = re.fullmatch(r"flag --?([\w.]+)=(.*?): (.*)", str(error), re.DOTALL)
    if wrong is None:
        return InputError("command line", error, "flags as --help lists them")
    name, value, reason = wrong.groups()
    kinds = {
        "int()": "an integer",
        "to float": "a number",
        "boolean": "True or False",
        "ConfigDict": "fields of the section, such as --help lists",
    }
    expected = next((kind for part, kind in kinds.items() if part in reason), reason)
    return InputError(name if "." in name else f"--{name}", repr(value), expected)
