"""Every field of the configuration and of the importers, from the docstrings of their classes."""

import collections
import dataclasses

from catid2_jax.config import Config
from catid2_jax.config_help import described_fields, descriptions
from catid2_jax.data.sources.dataset import WritingConfig
from catid2_jax.data.sources.registry import SOURCES
from website.markdown import code, prose, table

_HEADER = ("field", "default", "meaning")


def fields() -> str:
    """A heading and a table for each section of the configuration."""
    texts, sections = descriptions(Config), collections.defaultdict(list)
    for path, value, text in described_fields():
        section, _, name = path.rpartition(".")
        sections[section].append((code(name), _value(value), prose(text)))
    parts = []
    for section, rows in sections.items():
        about = prose(_sentence(texts.get(section.removeprefix("config."), "")))
        parts.append(f"## {section}\n\n{about}\n\n{table(_HEADER, rows)}")
    return "\n\n".join(parts)


def source_fields() -> str:
    """A heading and a table for each source of `import_data`, and one for what all share."""
    classes = {name: config for name, (config, _) in SOURCES.items()}
    return "\n\n".join(
        f"### {name}\n\n{table(_HEADER, _flags(described))}"
        for name, described in {**classes, "all sources": WritingConfig}.items()
    )


def _flags(described: type) -> list[tuple[str, str, str]]:
    """Field, default and meaning of each flag; the classes above have fields of theirs."""
    texts: dict[str, str] = {}
    for parent in reversed(described.__mro__):
        texts |= descriptions(parent)
    rows = []
    for field in dataclasses.fields(described):
        needed = field.default is dataclasses.MISSING
        default = "*needed*" if needed else _value(field.default)
        rows.append((code(f"--{field.name}"), default, prose(texts.get(field.name, ""))))
    return rows


def _value(value: object) -> str:
    return "" if value in ("", ()) else code(repr(value) if isinstance(value, str) else value)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
