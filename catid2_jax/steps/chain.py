"""Runs the steps in order: skips what is done, goes on with what was interrupted."""

import dataclasses
import functools
import time
from collections.abc import Callable

from catid2_jax.config import Config
from catid2_jax.errors import InputError
from catid2_jax.losses import TIGER
from catid2_jax.processes import first_alone, wait_for_all
from catid2_jax.progress import console
from catid2_jax.steps import assign, embed, evaluate, prepare, retrieve, train_rqvae, train_seq2seq
from catid2_jax.steps.workdir import (
    Workdir,
    first_difference,
    read_record,
    relevant_config,
    write_record,
)


@dataclasses.dataclass(frozen=True)
class Step:
    """One link of the chain.

    Attributes:
        name: as in the records.
        run: does the work; leaves its files whole or not at all.
        sections: sections of the configuration that it reads.
        shared: whether baselines use the same result.
        resumes: whether an interrupted run leaves something that the next one builds on.
        repeatable: whether another configuration may replace its result: nothing is built on it.
        always: whether it is run again though done.
        alone: whether of several processes the first runs it alone: it reads what it writes.
    """

    name: str
    run: Callable[[Config, Workdir], None]
    sections: tuple[str, ...]
    shared: bool = False
    resumes: bool = False
    repeatable: bool = False
    always: bool = False
    alone: bool = False


STEPS = (
    Step("prepare", prepare.run, ("data",), shared=True, alone=True),
    Step("embed", embed.run, ("embedding",), shared=True),
    Step("train_rqvae", train_rqvae.run, ("rqvae", "loss_weights", "rqvae_training"), resumes=True),
    Step("assign", assign.run, ("docids",)),
    Step(
        "train_seq2seq",
        train_seq2seq.run,
        ("rqvae", "seq2seq", "t5", "seq2seq_training"),  # of "rqvae" the size of the IDs
        resumes=True,
    ),
    Step("retrieve", retrieve.run, ("retrieve",), repeatable=True),
    Step(
        "evaluate",
        evaluate.run,
        ("retrieve", "evaluate"),
        repeatable=True,
        always=True,
        alone=True,
    ),
)


def run_until(config: Config, workdir: Workdir, last: str) -> None:
    """Brings a work directory up to the step `last`, baselines with stages of their own included.

    Raises:
        InputError: the work directory was made with another configuration, or other queries than
            the test's are to be evaluated.
    """
    if last == "evaluate" and config.retrieve.queries:
        raise InputError(
            f"config.retrieve.queries is {config.retrieve.queries!r}: expected it to be empty, "
            "since what is measured is the test queries"
        )
    names = [step.name for step in STEPS]
    steps = STEPS[: names.index(last) + 1]
    steps = tuple(step for step in steps if step.name not in _superfluous(config, last))
    for step in steps:
        _check(step, config, workdir)
    for step in steps:
        if step.name == "evaluate" and "tiger" in config.evaluate.baselines:
            # A table that is given is not TIGER's.
            docids = dataclasses.replace(config.docids, path="")
            tiger = dataclasses.replace(config, loss_weights=TIGER, docids=docids)
            until = "retrieve" if config.evaluate.retrieval else "assign"
            run_until(tiger, dataclasses.replace(workdir, variant="tiger"), until)
        if step.alone:
            first_alone(functools.partial(_run, step, config, workdir))
        else:
            _run(step, config, workdir)
            wait_for_all(step.name)


def _superfluous(config: Config, last: str) -> set[str]:
    """Steps whose result the configuration does not ask for."""
    names: set[str] = set()
    if config.docids.path or config.docids.previous:
        names.add("train_rqvae")
    if last == "evaluate" and not config.evaluate.retrieval:
        names |= {"train_seq2seq", "retrieve"}
    return names


def _place(step: Step, workdir: Workdir) -> Workdir:
    """Shared steps belong to the run, the others to the variant."""
    return dataclasses.replace(workdir, variant="") if step.shared else workdir


def _check(step: Step, config: Config, workdir: Workdir) -> None:
    record = read_record(_place(step, workdir).record(step.name))
    if record is None or step.repeatable or not (record["done"] or step.resumes):
        return
    difference = first_difference(record["config"], relevant_config(config, step.sections))
    if difference:
        raise InputError(
            f"{workdir.root}: its step {step.name} was made with {difference}; expected the same "
            "configuration, or another --workdir"
        )


def _run(step: Step, config: Config, workdir: Workdir) -> None:
    place = _place(step, workdir)
    path = place.record(step.name)
    wanted = relevant_config(config, step.sections)
    label = f"{workdir.variant} {step.name}".strip()
    record = read_record(path)
    if record and record["done"] and record["config"] == wanted and not step.always:
        console.print(f"{label}: done before, in {record['seconds']:.0f} s")
        return
    write_record(path, wanted, None)
    start = time.monotonic()
    try:
        step.run(config, place)
    except InputError:
        if record is None:  # nothing was built yet, so the mended configuration may differ
            path.unlink(missing_ok=True)
        raise
    seconds = time.monotonic() - start
    write_record(path, wanted, seconds)
    console.print(f"{label}: done in {seconds:.0f} s")
