"""Every field of the configuration with its value and its meaning, from the classes' docstrings."""

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from catid2_jax.config import Config, default_config

_ATTRIBUTE = re.compile(r"^    (\w+): (.*)$")


def attribute_docs(section: type) -> dict[str, str]:
    """Name of each attribute that a class's docstring describes -> its text, in one line."""
    lines = (inspect.getdoc(section) or "").split("Attributes:", 1)[-1].splitlines()
    docs: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        found = _ATTRIBUTE.match(line)
        if found:
            current = docs.setdefault(found[1], [])
            current.append(found[2])
        elif line.startswith("        "):
            current.append(line.strip())
        elif line.strip():
            current = []
    return {name: " ".join(text) for name, text in docs.items()}


def described_fields(
    section: type = Config, values: Mapping[str, Any] | None = None, path: str = "config"
) -> Iterator[tuple[str, Any, str]]:
    """(path, value, text) of every field, sections in the order of the configuration.

    Args:
        section: the class.
        values: its values, nested; the defaults if None.
        path: of the section.
    """
    values = default_config().to_dict() if values is None else values
    docs, hints = attribute_docs(section), typing.get_type_hints(section)
    for name, value in values.items():
        hint = hints.get(name)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from described_fields(hint, value, f"{path}.{name}")
        elif isinstance(value, Mapping) and value:
            for plugin, options in value.items():
                for option, default in options.items():
                    yield f"{path}.{name}.{plugin}.{option}", default, docs.get(name, "")
        else:
            yield f"{path}.{name}", value, docs.get(name, "")


def field_help(config: Any = None) -> str:
    """The text that --help prints of the fields: `--path=value` and what it means.

    Args:
        config: a ConfigDict whose values are shown; the defaults if None.
    """
    values = None if config is None else config.to_dict()
    blocks = ["Fields of the configuration, with their values here:"]
    for path, value, text in described_fields(values=values):
        meaning = textwrap.indent(textwrap.fill(text, 92), "        ")
        blocks.append(f"    --{path}={value!r}\n{meaning}")
    return "\n".join(blocks)
