"""Every field of the configuration with its value and its meaning, from the classes' docstrings."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from catid2_jax.config import Config, default_config
from catid2_jax.constraints import allowed, field_hints
from catid2_jax.retrievers.retriever import RETRIEVERS, resolve_retriever
from catid2_jax.schemes.scheme import SCHEMES, resolve_scheme

_DESCRIBED = re.compile(r"^    (\w+): (.*)$")


def descriptions(described: Any, heading: str = "Attributes") -> dict[str, str]:
    """Name of each attribute or argument that a docstring describes -> its text, in one line."""
    _, _, text = (inspect.getdoc(described) or "").partition(f"{heading}:\n")
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line and not line.startswith(" "):
            break
        match = _DESCRIBED.match(line)
        if match:
            name, found[match[1]] = match[1], match[2]
        elif name and line:
            found[name] += f" {line.strip()}"
    return found


def described_fields(
    section: type = Config, values: Mapping[str, Any] | None = None, path: str = "config"
) -> Iterator[tuple[str, Any, str]]:
    """(path, value, text) of every field, in the order of the classes; the text ends in its range.

    Args:
        section: the class.
        values: its values, nested; the defaults if None.
        path: path of the section.
    """
    values = default_config().to_dict() if values is None else values
    texts = descriptions(section)
    for name, hint in field_hints(section).items():
        inner = f"{path}.{name}"
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from described_fields(hint, values[name], inner)
        elif inner == "config.options":
            for plugin, options in values[name].items():
                of_plugin = _option_texts(plugin)
                for option, value in options.items():
                    text = of_plugin.get(option, f"{option} of {plugin}.")
                    yield f"{inner}.{plugin}.{option}", value, text
        else:
            yield inner, values[name], f"{texts.get(name, '')}{_range(hint)}"


def _range(hint: Any) -> str:
    """What an annotation allows, as a sentence after another; empty if everything."""
    words = allowed(hint)
    return f" {words[0].upper()}{words[1:]}." if words else ""


def _option_texts(plugin: str) -> dict[str, str]:
    """What the options of a scheme or retriever of the package mean."""
    for known, resolve in ((SCHEMES, resolve_scheme), (RETRIEVERS, resolve_retriever)):
        if plugin in known:
            found = resolve(plugin)
            hints = field_hints(found if dataclasses.is_dataclass(found) else found.__init__)
            texts = descriptions(found) | descriptions(found.__init__, "Args")
            return {name: f"{text}{_range(hints.get(name))}" for name, text in texts.items()}
    return {}


def field_help(config: Any = None) -> str:
    """The text that --help prints of the fields: `--path=value` and what it means.

    Args:
        config: a ConfigDict whose values are shown; the defaults if None.
    """
    values = None if config is None else config.to_dict()
    blocks = ["Fields of the configuration, with their values here:"]
    for path, value, text in described_fields(values=values):
        blocks.append(f"    --{path}={value!r}\n{paragraph(text)}")
    return "\n".join(blocks)


def paragraph(text: str) -> str:
    """Text as --help shows what a flag means: indented, in lines of 100 characters at most."""
    return textwrap.indent(textwrap.fill(text, 92), "        ")
