"""What a report reads: work directories, their systems, and what these found."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from catid2_jax.config import Config, build
from catid2_jax.data.config import SPLITS
from catid2_jax.data.corpus import Catalog
from catid2_jax.data.preprocessing import keep_grades
from catid2_jax.data.queries import read_qrels, read_queries, relevant_grades
from catid2_jax.docids.table import DocidTable
from catid2_jax.errors import InputError
from catid2_jax.evaluation.config import EvaluateConfig
from catid2_jax.evaluation.recall import trec_eval_order
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.finished import recorded_config
from catid2_jax.loading import load_table
from catid2_jax.records import systems_in
from catid2_jax.resolution import resolve_system
from catid2_jax.types import Qrels
from catid2_jax.workdir import (
    Place,
    Record,
    Workdir,
    check_artefacts,
    place_of,
    read_record,
    record_path,
)

T = TypeVar("T")

SHARED_STEPS = ("prepare", "embed", "vocabulary", "evaluate")
OWN_STEPS = ("embed", "docids", "train_seq2seq", "train_towers", "retrieve")


@dataclasses.dataclass(frozen=True, eq=False)
class SystemRun:
    """A system, with one seed, of a work directory.

    Attributes:
        name: the name of its folder, as "cat_id2@1".
        plain_name: the name without the seed.
        label: its name in tables.
        is_seeded: whether what it finds depends on the seed.
        config: its own configuration, as its records hold it.
        place: where its files lie.
        catalog: the products.
        records: step -> record of the steps that are done.
        ties: in which order products of equal scores count.
    """

    name: str
    plain_name: str
    label: str
    is_seeded: bool
    config: Config
    place: Place
    catalog: Catalog
    records: Mapping[str, Record]
    ties: str

    @property
    def is_ranked(self) -> bool:
        """Whether it has searched for the test queries."""
        found = self.records.get("retrieve")
        return found is not None and not found.config["retrieve"]["queries"]

    @property
    def has_docids(self) -> bool:
        """Whether it has IDs of its own."""
        return "docids" in self.records and self.place.model == self.place.folder

    @property
    def k(self) -> int:
        """The most products of a ranking."""
        return int(self.records["retrieve"].config["retrieve"]["k"])

    @functools.cached_property
    def ranking(self) -> dict[str, list[tuple[str, float]]]:
        """Query id -> (product id, score), in the order in which they count."""
        run = read_run(self.place.folder / self.config.retrieve.output)
        in_order = trec_eval_order if self.ties == "trec_eval" else list
        return {query: in_order(hits) for query, hits in run.items()}

    @functools.cached_property
    def table(self) -> DocidTable:
        """The document IDs that it searches with."""
        return load_table(self.place, self.catalog)


@dataclasses.dataclass(frozen=True, eq=False)
class Directory:
    """A work directory.

    Attributes:
        name: what it is called in the report.
        workdir: its files.
        records: step -> record of the shared steps that are done.
        catalog: the products.
        systems: its systems, each seed for itself.
        evaluate: what is measured.
    """

    name: str
    workdir: Workdir
    records: Mapping[str, Record]
    catalog: Catalog
    systems: Sequence[SystemRun]
    evaluate: EvaluateConfig

    @functools.cached_property
    def queries(self) -> dict[str, dict[str, str]]:
        """Split -> query id -> text, of the splits that `prepare` left."""
        splits = [split for split in SPLITS if self.workdir.queries(split).exists()]
        return {
            split: {query.id: query.text for query in read_queries(self.workdir.queries(split))}
            for split in splits
        }

    @functools.cached_property
    def qrels(self) -> dict[str, Qrels]:
        """Split -> all judgements that `prepare` kept."""
        return {split: read_qrels(self.workdir.qrels(split)) for split in self.queries}

    @functools.cached_property
    def relevant(self) -> Qrels:
        """Relevant products of the test queries that have any, in the order of the judgements."""
        labels = self.records["prepare"].config["data"]["preprocessing"]["relevant_labels"]
        return keep_grades(self.qrels.get("test", {}), relevant_grades(labels))


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A system with all of its seeds: a row of the tables.

    Attributes:
        label: its name, with that of its directory where there are several.
        directory: where it ran.
        seeds: its runs, those with a ranking of the test queries.
    """

    label: str
    directory: Directory
    seeds: Sequence[SystemRun]


def open_directory(root: pathlib.Path, name: str) -> Directory:
    """Reads the records of a work directory.

    Raises:
        InputError: it is none, was made by another version, has no finished step, or has a file
            that has changed since its step was done.
    """
    names = systems_in(root)
    records = _records(root, SHARED_STEPS)
    if "prepare" not in records:
        expected = "a finished work directory: run the same command again"
        raise InputError(root, "no finished step prepare", expected)
    evaluate, workdir = EvaluateConfig(), Workdir(root)
    if "evaluate" in records:
        evaluate = build(EvaluateConfig, records["evaluate"].config["evaluate"], "evaluate")
    catalog = Catalog.open(workdir.catalog)
    runs = [_system_run(root, system, catalog, evaluate.ties) for system in names]
    found = [run for run in runs if run is not None]
    directory = Directory(name, workdir, records, catalog, found, evaluate)
    for run in found:
        check_artefacts(run.place, "evaluate")
        if run.is_ranked:
            _check_judged(run, directory)
    return directory


def _records(folder: pathlib.Path, steps: Sequence[str]) -> dict[str, Record]:
    """Step -> record of the steps that are done."""
    found = {step: read_record(record_path(folder, step)) for step in steps}
    return {step: record for step, record in found.items() if record and record.done}


def _system_run(root: pathlib.Path, name: str, catalog: Catalog, ties: str) -> SystemRun | None:
    """A system of a work directory; None if none of its steps is done."""
    records = _records(root / name, OWN_STEPS)
    own = [record for step, record in records.items() if step != "embed"]
    if not own:
        return None
    config = recorded_config(records, root, {})
    system = resolve_system(own[0].system, config)
    place = place_of(system, config, Workdir(root))
    # The recorded configuration is the system's own, so that it cannot tell whose vectors it has.
    vectors = root / system.plain_name
    has_own = record_path(vectors, "embed").exists()
    place = dataclasses.replace(place, vectors=vectors if has_own else root)
    return SystemRun(
        name,
        system.plain_name,
        system.row.label,
        system.is_seeded,
        config,
        place,
        catalog,
        records,
        ties,
    )


def _check_judged(run: SystemRun, directory: Directory) -> None:
    """Raises InputError for a ranking of other queries than those that are judged."""
    if not directory.relevant:
        path = directory.workdir.qrels("test")
        raise InputError(path, "no query with a relevant product", "at least one")
    if run.ranking and not run.ranking.keys() & directory.relevant.keys():
        raise InputError(
            run.place.folder / run.config.retrieve.output,
            f"rankings of {len(run.ranking)} queries, none of which is judged",
            "those of the test queries",
        )


def check_same_queries(first: Directory, other: Directory) -> None:
    """Checks that two directories have the same test queries and the same relevant products.

    Raises:
        InputError: they differ; it names the first difference.
    """
    here, there = first.queries.get("test", {}), other.queries.get("test", {})
    _check_same("texts", here, there, first, other)
    _check_same("relevant products", first.relevant, other.relevant, first, other)


def _check_same(
    what: str, here: Mapping[str, T], there: Mapping[str, T], first: Directory, other: Directory
) -> None:
    ids = [*here, *(query for query in there if query not in here)]
    different = [query for query in ids if here.get(query) != there.get(query)]
    if different:
        query = different[0]
        missing = "" if query in there and query in here else ", which only one of them has"
        raise InputError(
            other.workdir.root,
            f"{len(different):,} test queries with other {what} than in {first.workdir.root}, the "
            f"first of them {query!r}{missing}",
            "the same test queries and judgements",
        )


def first_seeds(runs: Iterable[SystemRun]) -> list[SystemRun]:
    """Of the runs of a system in a directory the first."""
    first: dict[tuple[pathlib.Path, str], SystemRun] = {}
    for run in runs:
        first.setdefault((run.place.workdir.root, run.plain_name), run)
    return list(first.values())


def make_rows(directories: Sequence[Directory]) -> list[Row]:
    """The systems of all directories that have rankings of the test queries."""
    rows = []
    for directory in directories:
        runs: dict[str, list[SystemRun]] = {}
        for run in directory.systems:
            if run.is_ranked:
                runs.setdefault(run.plain_name, []).append(run)
        for name, seeds in runs.items():
            same = {other[0].label for key, other in runs.items() if key != name}
            label = f"{seeds[0].label} ({name})" if seeds[0].label in same else seeds[0].label
            if len(directories) > 1:
                label = f"{label}, {directory.name}"
            rows.append(Row(label, directory, seeds))
    return rows


def rows_in(run: SystemRun, ids: Sequence[str]) -> np.ndarray | None:
    """Rows of products in a system's catalogue, int64; None where it lacks one."""
    found = [run.catalog.rows.get(product) for product in ids]
    return None if None in found else np.array(found, np.int64)
