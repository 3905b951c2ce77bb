"""Runs the steps in order: skips what is done, goes on with what was interrupted."""

import dataclasses
import functools
import importlib.util
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from catid2_jax.config import Config, view
from catid2_jax.errors import InputError
from catid2_jax.memory import peak_memory, reset_peak
from catid2_jax.plugins import is_dotted, resolve
from catid2_jax.processes import first_alone, is_first, wait_for_all
from catid2_jax.progress import console
from catid2_jax.resolution import (
    ResolvedSystem,
    check_query_vectors,
    resolve_system,
    resolve_systems,
    with_parts,
)
from catid2_jax.steps import (
    embed,
    evaluate,
    fit_docids,
    prepare,
    retrieve,
    train_seq2seq,
    train_towers,
)
from catid2_jax.steps.check import check_inputs
from catid2_jax.workdir import (
    Place,
    Record,
    Workdir,
    built_on,
    check_artefacts,
    check_built_on,
    finish,
    first_difference,
    has_begun,
    place_of,
    read_record,
    record_path,
    relevant_values,
    replaced_file,
    shared_place,
    write_record,
)

Result: TypeAlias = Mapping[str, Any] | None
"""What a step leaves for later ones beside its files."""

STEPS = (*("prepare", "embed", "docids", "train_seq2seq", "train_towers", "retrieve", "evaluate"),)
"""The steps by name, in their order."""

_LEFT = {
    "prepare": ("data/*", "synthetic/*"),
    "embed": ("embeddings.npy", "query_vectors.*.npy"),
    "docids": ("docids*", "rqvae/**/*", "genret/**/*"),
    "train_seq2seq": ("seq2seq/**/*", "encoder/*"),
    "train_towers": ("towers/**/*", "encoder/*", "product_vectors.npy"),
    "evaluate": ("metrics.json",),
}
"""Step -> patterns of the files that it leaves beside its figures."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One link of the chain.

    Attributes:
        name: its name in the records.
        run: does the work, with no more of the configuration than `reads`; leaves its files whole
            or not at all.
        reads: sections and fields of the configuration that it reads.
        config: the configuration.
        place: where it reads and writes.
        system: the entry of `config.systems` that it belongs to; empty for a shared step.
        resumes: whether an interrupted run leaves something that the next one builds on.
        repeatable: whether another configuration may replace its result: nothing is built on it.
        always: whether it is run again though done.
        alone: whether of several processes the first runs it alone: it reads what it writes.
        places: where it reads; empty for `place`.
    """

    name: str
    run: Callable[[Config, Place], Result]
    reads: tuple[str, ...]
    config: Config
    place: Place
    system: str = ""
    resumes: bool = False
    repeatable: bool = False
    always: bool = False
    alone: bool = False
    places: tuple[Place, ...] = ()

    @property
    def left(self) -> tuple[str, ...]:
        """Patterns of the files that it leaves."""
        figures = f"steps/{self.name}.metrics.json"
        return (*_LEFT.get(self.name, (self.config.retrieve.output,)), figures)

    @property
    def record(self) -> pathlib.Path:
        """Where its record lies."""
        return record_path(self.place.folder, self.name)

    @property
    def label(self) -> str:
        """Its name for the user."""
        folder = self.place.folder
        return self.name if folder == self.place.workdir.root else f"{folder.name} {self.name}"


def run_until(config: Config, workdir: Workdir, last: str) -> None:
    """Brings a work directory up to the step `last`, for all systems of the configuration.

    Raises:
        InputError: the work directory was made with another configuration, or other queries than
            the test's are to be evaluated.
    """
    if last == "evaluate" and config.retrieve.queries:
        raise InputError(
            "config.retrieve.queries",
            repr(config.retrieve.queries),
            "it to be empty, since what is measured is the test queries",
        )
    steps = plan(config, workdir, last)
    for step in steps:
        _check(step)
    names = {step.name for step in steps}
    for step in steps:
        if step.alone:
            first_alone(functools.partial(_run, step))
        else:
            _run(step)
            wait_for_all(step.label)
        if step.name == "prepare":
            check_inputs(workdir, with_parts(resolve_systems(config).values()), names)


def plan(config: Config, workdir: Workdir, last: str) -> list[Step]:
    """The steps up to `last`, each once, in the order in which they run.

    Raises:
        InputError: an unknown system, settings that do not go with it, or an encoder or a decoder
            that cannot be imported.
    """
    systems = resolve_systems(config)
    _check_packages(with_parts(systems.values()))
    for name, where in (
        (config.embedding.encoder, "config.embedding.encoder"),
        (config.seq2seq.decoder, "config.seq2seq.decoder"),
    ):
        if is_dotted(name):
            resolve(name, {}, where)
    wanted = set(STEPS[: STEPS.index(last) + 1])
    if last == "evaluate" and not config.evaluate.retrieval:
        wanted -= {"train_seq2seq", "train_towers", "retrieve"}
    if {"retrieve", "evaluate"} <= wanted:
        _check_cutoffs(config, systems.values())
    shared = shared_place(workdir.root)
    steps = [Step("prepare", prepare.run, ("data",), config, shared, alone=True)]
    if last == "embed":
        steps += _embed(None, config, shared)
    for system in systems.values():
        steps += _steps_of(system, config, workdir, wanted)
    if "evaluate" in wanted:
        places = {name: place_of(s, config, workdir) for name, s in systems.items()}
        run = functools.partial(evaluate.run, systems=systems, places=places)
        steps.append(
            Step(
                "evaluate",
                run,
                evaluate.READS,
                config,
                shared,
                repeatable=True,
                always=True,
                alone=True,
                places=tuple(places.values()),
            )
        )
    unique = {step.record: step for step in reversed(steps) if step.name in wanted}
    return [step for step in steps if unique.pop(step.record, None)]


def _steps_of(
    system: ResolvedSystem, config: Config, workdir: Workdir, wanted: set[str]
) -> Iterator[Step]:
    """All steps of a system, and before them those that make the model of another that it uses."""
    place = place_of(system, config, workdir)
    for part in system.parts:
        yield from _steps_of(part, config, workdir, wanted - {"retrieve"})
        if "retrieve" in wanted and part.needs_embeddings:
            yield from _embed(part, config, place_of(part, config, workdir))
    if system.row.model_of:
        other = resolve_system(f"{system.row.model_of}{system.suffix}", config)
        yield from _steps_of(other, config, workdir, wanted - {"retrieve"})
    elif system.row.scheme:
        yield from _embed(system, config, place)
        yield _docids(system, place)
        if system.is_trained:
            yield _train(system, place)
    elif system.has_towers:
        yield from _embed(system, config, place)
        yield _train_towers(system, place)
    if "retrieve" in wanted:
        check_query_vectors(system)
        if system.needs_embeddings and not system.parts:
            yield from _embed(system, config, place)
        run = functools.partial(retrieve.run, system=system)
        yield Step(
            "retrieve",
            run,
            retrieve.reads(system),
            system.config,
            place,
            system.entry,
            repeatable=True,
            places=tuple(place_of(s, config, workdir) for s in with_parts([system])),
        )


def _embed(system: ResolvedSystem | None, config: Config, place: Place) -> Iterator[Step]:
    """The step `embed` of all systems, or of one that changes the embeddings, for every seed."""
    shared = shared_place(place.workdir.root)
    if system is None or place.vectors == shared.vectors:
        yield Step("embed", embed.run, ("embedding",), config, shared)
        return
    chosen = dataclasses.replace(system.config, seed=config.seed)
    own = dataclasses.replace(place, folder=place.vectors)
    entry = system.entry.removesuffix(system.suffix)
    yield Step("embed", embed.run, ("embedding",), chosen, own, entry)


def _docids(system: ResolvedSystem, place: Place) -> Step:
    run = functools.partial(fit_docids.run, system=system)
    reads = (*system.sections, system.option_names[0])
    return Step("docids", run, reads, system.config, place, system.entry, resumes=True)


def _train(system: ResolvedSystem, place: Place) -> Step:
    return Step(
        "train_seq2seq",
        train_seq2seq.run,
        train_seq2seq.READS,
        system.config,
        place,
        system.entry,
        resumes=True,
    )


def _train_towers(system: ResolvedSystem, place: Place) -> Step:
    return Step(
        "train_towers",
        functools.partial(train_towers.run, system=system),
        (*train_towers.READS, system.option_names[1]),
        system.config,
        place,
        system.entry,
        resumes=True,
    )


def _check_packages(systems: Iterable[ResolvedSystem]) -> None:
    """Raises InputError for a system whose encoder needs a package that is not installed."""
    name = "sentence_transformers"
    for system in systems:
        is_own = system.config.embedding.encoder == name and system.needs_embeddings
        if is_own and importlib.util.find_spec(name) is None:
            raise InputError(
                "config.systems",
                f"{system.name!r} without the package {name}",
                "it: pip install 'catid2_jax[embed]'",
            )


def _check_cutoffs(config: Config, systems: Iterable[ResolvedSystem]) -> None:
    """Raises InputError if no cutoff of the evaluation is within a system's results."""
    for system in systems:
        if min(config.evaluate.cutoffs) > system.config.retrieve.k:
            raise InputError(
                "config.evaluate.cutoffs",
                config.evaluate.cutoffs,
                f"some of at most retrieve.k = {system.config.retrieve.k} of {system.name!r}",
            )


def _check(step: Step) -> None:
    """Raises InputError if a result that is built on was made with another configuration."""
    record = read_record(step.record)
    if record is None or step.repeatable:
        return
    if not (record.done or (step.resumes and has_begun(step.place.folder, step.name))):
        return
    difference = first_difference(record.config, relevant_values(step.config, step.reads))
    if difference:
        raise InputError(
            step.place.folder,
            f"its step {step.name}, which was made with {difference}",
            "the same configuration, or another --workdir",
        )
    check_built_on(step.place, step.name, step.record)


def _run(step: Step) -> None:
    """Runs a step unless it is done, and records it."""
    wanted = relevant_values(step.config, step.reads)
    record, places = read_record(step.record), step.places or (step.place,)
    if record and record.done and record.config == wanted and not step.always:
        replaced = replaced_file(record, step.name, *places)
        if not replaced:
            console.print(f"{step.label}: done before, in {record.seconds:.0f} s")
            return
        console.print(f"{step.label}: done before with another {replaced}, so once more")
    _check(step)  # again, for the steps before it are done by now
    for place in places:
        check_artefacts(place, step.name)
    new = Record(wanted, step.system, built_on=built_on(step.name, *places))
    write_record(step.record, new)
    start = time.monotonic()
    reset_peak()
    result = step.run(view(step.config, step.reads, f"step {step.name}"), step.place)
    seconds = time.monotonic() - start
    if is_first():
        # The vocabulary may be new.
        built = built_on(step.name, *places)
        new = dataclasses.replace(new, built_on=built, memory=peak_memory())
        write_record(step.record, finish(new, step.place.folder, step.left, seconds, result))
    console.print(f"{step.label}: done in {seconds:.0f} s")
