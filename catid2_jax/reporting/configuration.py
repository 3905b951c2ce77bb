"""Configuration, versions, hashes and data: what was run, and on what."""

import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping
from typing import Any

from catid2_jax.config import Config, as_nested_dict
from catid2_jax.files import read_json
from catid2_jax.records import FORMAT
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Block, Code, Prose, Section, Table
from catid2_jax.reporting.runs import Directory, SystemRun, first_seeds

_PACKAGES = ("catid2_jax", "jax", "jaxlib", "flax", "numpy", "scikit-learn", "ir-measures")


def section(comparison: Comparison) -> Section:
    """What was run, on which data, with which files as the result."""
    blocks: list[Block] = [
        _data_table(comparison),
        _settings_table(comparison),
        _version_table(comparison),
        *(_files_table(directory) for directory in comparison.directories),
        *(Code(f"Configuration of {comparison.label(r)}", _json(r)) for r in _runs(comparison)),
    ]
    return Section("Configuration and data", blocks)


def _runs(comparison: Comparison) -> list[SystemRun]:
    """A run of each system: its others differ from it in the seed alone."""
    return first_seeds(run for directory in comparison.directories for run in directory.systems)


def _data_table(comparison: Comparison) -> Table:
    """The paper's Table 1, and what preprocessing left out."""
    found = [_statistics(directory) for directory in comparison.directories]
    names = dict.fromkeys(name for statistics in found for name in statistics)
    rows = [
        (name.replace("_", " "), *(_number(statistics.get(name)) for statistics in found))
        for name in names
    ]
    columns = ("", *(directory.name for directory in comparison.directories))
    return Table("Data after preprocessing (Table 1), and what it left out", columns, rows)


def _statistics(directory: Directory) -> Mapping[str, Any]:
    path = directory.workdir.root / "steps" / "prepare.metrics.json"
    if path.exists():
        return dict(read_json(path))
    return {"documents": len(directory.catalog)}


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def _settings_table(comparison: Comparison) -> Block:
    """The settings in which a system differs from the defaults.

    What all systems that read a setting have is said once, in a column of its own.
    """
    defaults = dict(_flat(as_nested_dict(Config())))
    runs = _runs(comparison)
    settings = [_recorded(run, comparison) for run in runs]
    names = dict.fromkeys(name for values in settings for name in values)
    rows = []
    for name in names:
        default = defaults.get(name)
        if any(values.get(name, default) not in (default, {}) for values in settings):
            cells = [_shown(values[name]) if name in values else "" for values in settings]
            shared = set(filter(None, cells))
            cells = [*shared, *("" for _ in cells)] if len(shared) == 1 else ["", *cells]
            rows.append((name, "" if default is None else _shown(default), *cells))
    if not rows:
        return Prose("All settings are the defaults.")
    labels = list(map(comparison.label, runs))
    used = [place for place in range(len(labels) + 1) if any(row[2 + place] for row in rows)]
    rows = [(*row[:2], *(row[2 + place] for place in used)) for row in rows]
    columns = ("setting", "default", *(["every system", *labels][place] for place in used))
    texts = range(1, len(columns))
    return Table("Settings that are not the defaults", columns, rows, texts=tuple(texts))


def _recorded(run: SystemRun, comparison: Comparison) -> dict[str, Any]:
    """The settings that a system's steps depend on, by their paths."""
    directory = next(d for d in comparison.directories if run in d.systems)
    found: dict[str, Any] = {}
    for record in (*directory.records.values(), *run.records.values()):
        named = {name: v for name, v in record.config.items() if name != "contents of files"}
        found |= dict(_flat(named))
    found.pop("systems", None)  # of the last `evaluate`
    return found


def _values(run: SystemRun) -> dict[str, Any]:
    """A system's configuration, as its records hold it."""
    values = as_nested_dict(run.config)
    if "retrieve" in run.records:
        values["retrieve"] = run.records["retrieve"].config["retrieve"]
    return values


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json(run: SystemRun) -> str:
    return json.dumps(_values(run), indent=2, ensure_ascii=False, default=str)


def _version_table(comparison: Comparison) -> Table:
    versions = {name: _version(name) for name in _PACKAGES}
    rows = [
        ("format of the work directory", str(FORMAT)),
        *versions.items(),
        ("Python", platform.python_version()),
    ]
    return Table("Versions of what wrote this report", ("", "version"), rows, texts=(1,))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "not installed"


def _files_table(directory: Directory) -> Table:
    """Size and XXH3 of the files that the steps left, checkpoints left out."""
    root = directory.workdir.root
    records = [(root.name, directory.records)]
    records += [(run.name, run.records) for run in directory.systems]
    rows = {}
    for folder, found in records:
        for record in found.values():
            for name, (size, digest) in record.files.items():
                if name.count("/") <= 1:
                    path = name if folder == root.name else f"{folder}/{name}"
                    rows[path] = (path, f"{size:,}", digest)
    title = f"Files of {directory.name} and their digests (XXH3, 64 bits), as the steps left them"
    return Table(title, ("file", "bytes", "digest"), list(rows.values()), texts=(2,), folded=True)
