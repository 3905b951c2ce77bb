"""From an entry of `config.systems` to a system with a configuration of its own."""

import dataclasses
import inspect
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from catid2_jax.ablations import ABLATIONS
from catid2_jax.config import SECTIONS, Config, as_nested_dict, build
from catid2_jax.constraints import check_value, field_hints
from catid2_jax.encoders.config import PRECOMPUTED
from catid2_jax.errors import InputError
from catid2_jax.plugins import check_options, is_dotted, resolve
from catid2_jax.retrievers.retriever import (
    DPR,
    FUSED,
    RETRIEVERS,
    TRAINED,
    resolve_retriever,
    retriever_options,
)
from catid2_jax.schemes.scheme import (
    SCHEMES,
    make_scheme,
    resolve_scheme,
    scheme_options,
    scheme_sections,
)
from catid2_jax.systems import SYSTEMS, System


@dataclasses.dataclass(frozen=True)
class ResolvedSystem:
    """A system of a run: its row, its own configuration, and what that means for the steps.

    Attributes:
        entry: how the configuration names it.
        name: the name of its folder.
        row: what it is.
        config: the run's configuration with the row's changes.
        model_name: name of the system whose IDs and network it uses; its own, or empty for none.
        options: settings of its retriever.
        scheme_options: settings of its scheme.
        option_names: the parts of the configuration that these come from.
        parts: the systems whose rankings it fuses.
        suffix: "@SEED" where the entry names a seed of its own; else empty.
    """

    entry: str
    name: str
    row: System
    config: Config
    model_name: str
    options: Mapping[str, Any]
    scheme_options: Mapping[str, Any]
    option_names: tuple[str, str]
    parts: tuple["ResolvedSystem", ...] = ()
    suffix: str = ""

    @property
    def plain_name(self) -> str:
        """Its name without the seed: seeds share the embeddings."""
        return self.name.removesuffix(self.suffix)

    @property
    def all_options(self) -> Mapping[str, Any]:
        """The settings of its retriever, the defaults among them."""
        return {**retriever_options(self.row.retriever), **self.options}

    @property
    def has_towers(self) -> bool:
        """Whether it searches with trained towers."""
        return self.row.retriever == DPR

    @property
    def is_seeded(self) -> bool:
        """Whether what it finds depends on the seed."""
        own = self.row.scheme or self.row.model_of or self.has_towers
        return bool(own) or any(part.is_seeded for part in self.parts)

    @property
    def is_trained(self) -> bool:
        """Whether it searches with a trained stage 2."""
        return self.row.retriever in TRAINED

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections of the configuration that its scheme has fields for."""
        return scheme_sections(resolve_scheme(self.row.scheme), SECTIONS)

    @property
    def needs_embeddings(self) -> bool:
        """Whether its scheme or its retriever, or that of a part, reads embeddings."""
        if self.row.scheme or any(part.needs_embeddings for part in self.parts):
            return True
        return bool(getattr(resolve_retriever(self.row.retriever), "needs_embeddings", True))


def resolve_systems(config: Config) -> dict[str, ResolvedSystem]:
    """The run's systems by name, in the configuration's order, and those whose models they use.

    Raises:
        InputError: an unknown system, two of one name, a change of a field that does not exist, or
            settings that do not go with a system.
    """
    found: dict[str, ResolvedSystem] = {}
    for entry in config.systems:
        system = resolve_system(entry, config)
        if system.name in found:
            raise InputError("config.systems", f"two systems named {system.name!r}", "one of them")
        found[system.name] = system
    _check_option_names(config, with_parts(found.values()))
    if config.docids.path and not any(s.row.scheme == "given" for s in found.values()):
        raise InputError(
            "config.docids.path",
            f"{config.docids.path!r} with systems {config.systems}",
            "the system 'given' among them, which reads it",
        )
    return found


def with_parts(systems: Iterable[ResolvedSystem]) -> list[ResolvedSystem]:
    """The systems, each after those whose rankings it fuses."""
    return [found for system in systems for found in (*system.parts, system)]


def check_query_vectors(system: ResolvedSystem) -> None:
    """Raises InputError for a retriever that needs query vectors, where there will be none."""
    for part in system.parts:
        check_query_vectors(part)
    if not getattr(resolve_retriever(system.row.retriever), "needs_query_vectors", False):
        return
    embedding, retrieve = system.config.embedding, system.config.retrieve
    given = retrieve.query_vectors if retrieve.queries else embedding.test_query_vectors
    if embedding.encoder == "lsa" or (embedding.encoder == PRECOMPUTED and not given):
        raise InputError(
            "config.systems",
            f"{system.name!r} with encoder {embedding.encoder!r} and no vectors of the queries",
            "an encoder of queries, or given vectors (embedding.test_query_vectors)",
        )


def _check_option_names(config: Config, systems: Iterable[ResolvedSystem]) -> None:
    """Raises InputError for options that ours do not have, or of what is not in the run."""
    for name, options in config.options.items():
        if name in SCHEMES:
            scheme = resolve_scheme(name)
            _check_options(options, scheme_options(scheme, SECTIONS), name, scheme)
        elif name in RETRIEVERS:
            _check_options(options, retriever_options(name), name, resolve_retriever(name))
    own = {name.removeprefix("options.") for system in systems for name in system.option_names}
    known = {*SCHEMES, *RETRIEVERS, *filter(None, own)}
    for plugin in config.options:
        if plugin not in known:
            raise InputError("config.options", f"{plugin!r}", f"some of {', '.join(sorted(known))}")


def resolve_system(entry: str, config: Config, where: str = "config.systems") -> ResolvedSystem:
    """One system, named in the field `where`; see `resolve_systems`."""
    plain, suffix = _split_seed(entry)
    name, row = _row(plain, where)
    model_name, rows = name if row.scheme else "", [row]
    if row.model_of:
        model_name, model = _row(row.model_of, where)
        rows = [model, row]
    values = as_nested_dict(config)
    if suffix:
        values["seed"] = int(suffix[1:])
    plugins = {_option_name(plugin) for r in rows for plugin in (r.scheme, r.retriever)}
    for path, value in (change for r in rows for change in r.changes.items()):
        _set(values, path, value, entry, plugins)
    own = build(Config, values, "config")
    if row.retriever == DPR and own.seq2seq.pretrained:
        raise InputError(
            "config.seq2seq.pretrained",
            f"{own.seq2seq.pretrained!r} with system {entry!r}",
            "'', or pretrained_encoder: a tower is no whole T5",
        )
    if row.retriever in TRAINED and own.retrieve.k > own.retrieve.beams and not row.model_of:
        raise InputError("config.retrieve.k", own.retrieve.k, f"1 to beams = {own.retrieve.beams}")
    retriever, scheme = _option_name(row.retriever), _option_name(row.scheme)
    options, scheme_settings = (own.options.get(plugin, {}) for plugin in (retriever, scheme))
    known = retriever_options(row.retriever)
    _check_options(options, known, retriever, resolve_retriever(row.retriever))
    if row.scheme:
        factory = resolve_scheme(row.scheme)
        _check_options(scheme_settings, scheme_options(factory, SECTIONS), scheme, factory)
        if scheme in SCHEMES:  # ours are settings and nothing else
            sections = {name: getattr(own, name) for name in scheme_sections(factory, SECTIONS)}
            try:
                make_scheme(factory, sections, scheme_settings)
            except InputError as error:
                raise error.within(f"config.options.{scheme}") from error
    return ResolvedSystem(
        entry,
        f"{name}{suffix}",
        row,
        own,
        f"{model_name}{suffix}" if model_name else "",
        options,
        scheme_settings,
        (f"options.{scheme}", f"options.{retriever}"),
        _parts({**known, **options}["systems"], config, suffix) if row.retriever == FUSED else (),
        suffix,
    )


def _split_seed(entry: str) -> tuple[str, str]:
    """`NAME` and `@SEED` of an entry; the latter empty where the seed is the run's."""
    found = re.fullmatch(r"(.+)(@[0-9]{1,9})", entry)
    return (found[1], found[2]) if found else (entry, "")


def _parts(entries: Iterable[str], config: Config, suffix: str) -> tuple[ResolvedSystem, ...]:
    """The systems whose rankings are fused, each with what the run's configuration says.

    Those that name no seed have that of the system that fuses them, where it makes a difference.

    Raises:
        InputError: an unknown system, one that is fused itself, or two of one name.
    """
    where = f"config.options.{FUSED}.systems"
    for entry in entries:
        if _row(entry, where)[1].retriever == FUSED:
            raise InputError(where, repr(entry), "systems that are not fused themselves")
    parts = tuple(_with_seed(resolve_system(e, config, where), suffix, config) for e in entries)
    if len({part.name for part in parts}) < len(parts):
        raise InputError(where, repr(tuple(entries)), "each system once")
    return parts


def _with_seed(system: ResolvedSystem, suffix: str, config: Config) -> ResolvedSystem:
    if not suffix or system.suffix or not system.is_seeded:
        return system
    return resolve_system(f"{system.entry}{suffix}", config)


def _check_options(options: Any, known: Mapping[str, Any], plugin: str, factory: Any) -> None:
    """Raises InputError for options that a plug-in does not have, or of another type or range."""
    where = f"config.options.{plugin}"
    options = check_value(options, Mapping, where)
    check_options(options, known, where, factory)
    hints = field_hints(factory if dataclasses.is_dataclass(factory) else factory.__init__)
    for name, value in options.items():
        check_value(value, hints.get(name), f"{where}.{name}")


def _option_name(plugin: str) -> str:
    """Where a plug-in's settings stand in `config.options`: its short name, or its class's."""
    return plugin.rpartition(":")[2]


def option_changes(changes: Mapping[str, Any], plugin: str) -> dict[str, Any]:
    """Those of a system's changes that are options of a scheme or a retriever, by their names."""
    place = f"options.{_option_name(plugin)}."
    return {
        path.removeprefix(place): value for path, value in changes.items() if path.startswith(place)
    }


def _row(entry: str, where: str) -> tuple[str, System]:
    """Name and row of an entry of the field `where`."""
    if not is_dotted(entry):
        if entry not in SYSTEMS:
            rows = ", ".join(name for name in SYSTEMS if name not in ABLATIONS)
            raise InputError(
                where,
                repr(entry),
                f"some of {rows}, a row of Tables 3 to 6 such as table3_hccl, any of them with "
                "@SEED for a seed of its own, or package.module:Name",
            )
        return entry, SYSTEMS[entry]
    found = resolve(entry, {}, where)
    name = entry.rpartition(":")[2]
    if isinstance(found, System):
        return name, found
    if inspect.isclass(found) and callable(getattr(found, "fit", None)):
        return name, System(name, scheme=entry)
    if inspect.isclass(found) and callable(getattr(found, "search", None)):
        return name, System(name, retriever=entry)
    raise InputError(
        where,
        f"{entry!r}, a {type(found).__name__}",
        "a scheme, a retriever or a System",
    )


def _set(
    values: dict[str, Any], path: str, value: Any, entry: str, plugins: Collection[str]
) -> None:
    """Changes a field of nested values, which must be there, or an option of one of `plugins`."""
    *sections, name = path.split(".")
    if sections in (["options", plugin] for plugin in plugins):
        options, plugin = values["options"], sections[1]
        values["options"] = {**options, plugin: {**options.get(plugin, {}), name: value}}
        return
    for section in sections:
        inner = values.get(section)
        values = inner if isinstance(inner, dict) else {}
    if name not in values or sections[:1] == ["options"]:
        raise InputError(f"system {entry}", f"a change of {path!r}", "a field of the configuration")
    values[name] = value
