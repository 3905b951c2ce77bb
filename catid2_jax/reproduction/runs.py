"""Runs systems with several seeds in one work directory, and reads what they found."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from catid2_jax.ablations import PAPER
from catid2_jax.config import Config
from catid2_jax.data.queries import read_qrels
from catid2_jax.errors import InputError
from catid2_jax.evaluation.recall import recall_per_query, trec_eval_order
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.resolution import ResolvedSystem, resolve_system
from catid2_jax.steps.chain import run_until
from catid2_jax.systems import SYSTEMS
from catid2_jax.types import Qrels
from catid2_jax.workdir import Place, Record, Workdir, place_of, read_record, record_path

STEPS = ("docids", "train_seq2seq", "train_towers", "retrieve")
"""The steps of a system whose time and memory are told."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a system did on a set of data, for the seeds that are done.

    Attributes:
        system: its row, as the table has it.
        label: its name in tables.
        seeds: how many seeds are done.
        wanted: how many there are to be.
        recall: k -> Recall@k in % of every seed and query, [S, Q].
        paper: set of the paper's -> k -> Recall@k in % that the paper reports.
        seconds: step -> mean time.
        memory: step -> most resident bytes, mean.
    """

    system: str
    label: str
    seeds: int
    wanted: int
    recall: Mapping[int, np.ndarray]
    paper: Mapping[str, Mapping[int, float]]
    seconds: Mapping[str, float]
    memory: Mapping[str, float]


def plan_runs(systems: Iterable[str], config: Config, seeds: int) -> dict[str, tuple[str, ...]]:
    """System -> the entries of `config.systems` that are run for it, one per seed.

    Rows that are the same system under several names share their runs, and what does not depend on
    the seed is run once.

    Args:
        systems: rows of a table.
        config: the run's configuration, whose seed is the first.
        seeds: number of seeds.

    Raises:
        InputError: an unknown system, or settings that do not go with one.
    """
    runs = {}
    for system in systems:
        found = _first_alike(resolve_system(system, config), config)
        count = seeds if found.is_seeded else 1
        others = (f"{found.entry}@{config.seed + number}" for number in range(1, count))
        runs[system] = (found.entry, *others)
    return runs


def run_all(
    runs: Mapping[str, Sequence[str]],
    config: Config,
    workdir: Workdir,
    after_seed: Callable[[], None],
) -> None:
    """Brings a work directory up to the rankings of all systems, seed after seed.

    What is done there is not done again; what was interrupted goes on.

    Args:
        runs: system -> its entries, by `plan_runs`.
        config: the run's configuration.
        workdir: shared by all systems and seeds.
        after_seed: called whenever all systems are done for a seed.

    Raises:
        InputError: settings that do not go together, bad data, or the work of another
            configuration.
    """
    for number in range(max(map(len, runs.values()))):
        entries = dict.fromkeys(run[number] for run in runs.values() if number < len(run))
        run_until(dataclasses.replace(config, systems=tuple(entries)), workdir, "retrieve")
        after_seed()


def cutoffs_within(config: Config, cutoffs: Sequence[int]) -> list[int]:
    """Those values of k that rankings are long enough for.

    Raises:
        InputError: all are above `retrieve.k`.
    """
    kept = [k for k in cutoffs if k <= config.retrieve.k]
    if cutoffs and not kept:
        raise InputError("config.retrieve.k", config.retrieve.k, f"at least {min(cutoffs)}")
    return kept


def measure(
    runs: Mapping[str, Sequence[str]], config: Config, workdir: Workdir, cutoffs: Sequence[int]
) -> list[Measured]:
    """What is done of the runs, by system; those of which nothing is done are left out.

    Args:
        runs: system -> its entries, by `plan_runs`.
        config: the run's configuration.
        workdir: where they ran.
        cutoffs: values of k, by `cutoffs_within`.
    """
    qrels = read_qrels(workdir.qrels("test"))
    found = []
    for system, entries in runs.items():
        places = [place_of(resolve_system(entry, config), config, workdir) for entry in entries]
        done = [place for place in places if _record(place, "retrieve") is not None]
        if done:
            found.append(_measured(system, done, len(places), config, qrels, cutoffs))
    return found


def _first_alike(system: ResolvedSystem, config: Config) -> ResolvedSystem:
    """The first row of `SYSTEMS` that is the same system under another name, or itself."""
    if system.entry not in SYSTEMS or system.parts:
        return system
    for name, row in SYSTEMS.items():
        about = (row.scheme, row.retriever, row.model_of)
        if about == (system.row.scheme, system.row.retriever, system.row.model_of):
            with contextlib.suppress(InputError):  # a row that does not go with the configuration
                found = resolve_system(name, config)
                if found.config == system.config:
                    return found
    return system


def _measured(
    system: str,
    places: Sequence[Place],
    wanted: int,
    config: Config,
    qrels: Qrels,
    cutoffs: Sequence[int],
) -> Measured:
    row = resolve_system(system, config).row
    recall = {}
    if cutoffs:
        values = np.stack([_recall(place.folder, config, qrels, cutoffs) for place in places])
        recall = {k: 100 * values[:, :, number] for number, k in enumerate(cutoffs)}
    seconds, memory = {}, {}
    for step in STEPS:
        records = [record for place in places if (record := _record(place, step))]
        if records:
            seconds[step] = float(np.mean([record.seconds or 0.0 for record in records]))
            memory[step] = float(np.mean([record.memory for record in records]))
    paper = row.paper or {"us": PAPER.get(system, {})}
    return Measured(system, row.label, len(places), wanted, recall, paper, seconds, memory)


def _recall(
    folder: pathlib.Path, config: Config, qrels: Qrels, cutoffs: Sequence[int]
) -> np.ndarray:
    """Recall of each query, [Q, cutoffs], in [0, 1]."""
    in_order = trec_eval_order if config.evaluate.ties == "trec_eval" else list
    run = read_run(folder / config.retrieve.output)
    ranking = {query: [d for d, _ in in_order(hits)] for query, hits in run.items()}
    labels = config.data.preprocessing.relevant_labels
    rows = recall_per_query(ranking, qrels, cutoffs, labels)
    return np.array([[row[f"recall@{k}"] for k in cutoffs] for row in rows.values()])


def _record(place: Place, step: str) -> Record | None:
    """The record of a step that is done, of the system's own or of the model that it uses."""
    folder = place.folder if step == "retrieve" else place.model
    record = read_record(record_path(folder, step))
    return record if record and record.done else None
