"""Two real processes of two devices beside one process, and what a process is told."""

import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from catid2_jax import processes
from catid2_jax.checkpoints.t5x import read_orbax
from catid2_jax.errors import InputError

ROOT = pathlib.Path(__file__).parent.parent.parent
CONFIG = f"--config={pathlib.Path(__file__).parent / 'small.py'}"
VERBS = runpy.run_path(str(ROOT / "launch/entry_points.py"))["VERBS"]
TWO = ("launch/local.py", "--processes=2", "--devices=2")


def run(*command):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


def parameters(folder):
    """Parameters of the last checkpoint of a stage, and its step."""
    saved = (path for path in (folder / "last").iterdir() if path.name.isdigit())
    folder = max(saved, key=lambda path: int(path.name))
    return read_orbax(folder / "default", ("params",)), folder.name


def check(found, expected, stages, curves=1):
    """Parameters to 1e-5, and the files that the steps leave.

    Args:
        found: a work directory.
        expected: another, made by one process.
        stages: folders of the trained stages in it.
        curves: how many files of curves each has: one per start.
    """
    for stage in stages:
        ours, step = parameters(found / stage)
        theirs, same = parameters(expected / stage)
        assert (step, ours.keys()) == (same, theirs.keys())
        for name, leaf in theirs.items():
            scale = np.abs(leaf).max()
            np.testing.assert_allclose(ours[name], leaf, atol=1e-5 * scale, err_msg=name)
        # One process writes the curves.
        assert len(list((found / stage).glob("events*"))) == curves
    names, wanted = (
        {p.relative_to(d) for folder in ("", "*/") for p in d.glob(f"{folder}*")}
        for d in (found, expected)
    )
    curves = {name for name in names | wanted if name.name.startswith("events")}
    assert names - curves == wanted - curves
    same = ("data/catalog.parquet", "embeddings.npy", "cat_id2/docids.jsonl", "vocabulary.model")
    for name in {pathlib.Path(name) for name in same} & wanted:
        assert (found / name).read_bytes() == (expected / name).read_bytes()


@pytest.mark.slow
def test_data_and_embeddings_of_two_processes_are_those_of_one(tmp_path):
    result = run(*TWO, "embed", CONFIG, f"--workdir={tmp_path / 'two'}")
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("everything is in") == 1  # the first process speaks
    result = run("-m", "catid2_jax.embed", CONFIG, f"--workdir={tmp_path / 'one'}")
    assert result.returncode == 0, result.stderr[-3000:]
    check(tmp_path / "two", tmp_path / "one", [])
    for name in ("data/catalog.parquet", "embeddings.npy"):
        assert (tmp_path / "two" / name).exists()


OF_A_RUN = ("finished", "seconds", "memory", "seal", "files", "built_on")
"""Keys of records whose values are another in each run."""


def said(path):
    """What a file says: a tree of texts and numbers without times, or its bytes."""
    if path.suffix == ".json":
        values = json.loads(path.read_text())
        return {key: value for key, value in values.items() if key not in OF_A_RUN}
    if path.suffix == ".trec":
        rows = [line.split() for line in path.read_text().splitlines()]
        return [[*row[:4], float(row[4])] for row in rows]
    if path.suffix in (".npy", ".npz"):
        return dict(np.load(path)) if path.suffix == ".npz" else np.load(path)
    return path.read_bytes()


def files_of_verbs(folder):
    """All that verbs leave but for checkpoints and curves."""
    names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {
        name
        for name in names
        if not {"last", "best", ".lock"} & {*name.parts} and not name.name.startswith("events")
    }


def check_files(found, expected):
    """All files but checkpoints: texts and whole numbers are the same, others to 1e-5."""
    names = files_of_verbs(expected)
    assert files_of_verbs(found) == names
    for name in names:
        ours, theirs = (
            jax.tree.leaves_with_path(said(folder / name)) for folder in (found, expected)
        )
        assert [path for path, _ in ours] == [path for path, _ in theirs], name
        for (path, leaf), (_, wanted) in zip(ours, theirs, strict=True):
            if isinstance(wanted, float | np.ndarray):
                near = 1e-5 * np.abs(wanted).max(initial=0)
                where = f"{name} {path}"
                np.testing.assert_allclose(leaf, wanted, rtol=0, atol=near, err_msg=where)
            else:
                assert leaf == wanted, (name, path)


@pytest.mark.slow
def test_every_verb_on_two_processes_leaves_what_one_leaves(tmp_path):
    """One after another, in one shared work directory."""
    systems = ("cat_id2", "bm25", "fused")
    fields = [
        CONFIG,
        f"--config.systems={systems}",
        f"--config.options.fused.systems={systems[:2]}",
    ]
    two, one = tmp_path / "two", tmp_path / "one"
    verbs = ("prepare", "embed", "assign", "train", "retrieve", "evaluate", "export", "inspect")
    assert {*verbs, "pipeline"} == {*VERBS}
    for verb in verbs:
        result = run(*TWO, verb, *fields, f"--workdir={two}")
        assert result.returncode == 0, result.stderr[-3000:]
    for verb in ("pipeline", "export", "inspect"):
        result = run("-m", f"catid2_jax.{verb}", *fields, f"--workdir={one}")
        assert result.returncode == 0, result.stderr[-3000:]
    check(two, one, ["cat_id2/rqvae", "cat_id2/seq2seq"])
    check_files(two, one)
    assert {pathlib.Path(system, "run.trec") for system in systems} < files_of_verbs(two)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "part", "more"),
    [
        ("docids", "rqvae", ["steps=200", "checkpoint_every=20"]),
        ("seq2seq", "seq2seq", ["epochs=40", "checkpoint_every=20"]),
    ],
)
def test_two_processes_that_are_preempted_save_and_go_on(tmp_path, stage, part, more):
    """SIGTERM to the launcher, in the midst of a training; then the same command again."""
    fields = [CONFIG, "--config.systems=('cat_id2',)", f"--config.stage={stage}"]
    fields += [f"--config.{part}_training.{field}" for field in more]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    result = run(*TWO, "train", *fields, f"--workdir={whole}")
    assert result.returncode == 0, result.stderr[-3000:]

    command = [sys.executable, *TWO, "train", *fields, f"--workdir={stopped}"]
    with (
        open(tmp_path / "log", "w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        first = stopped / "cat_id2" / part / "last/20/digests.json"
        while process.poll() is None and not first.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    shown = (tmp_path / "log").read_text(encoding="utf-8")
    assert code == 128 + signal.SIGTERM, shown[-3000:]
    assert "Traceback" not in shown
    assert "terminated; the same command goes on from here" in shown
    (_, saved), (_, end) = (parameters(run / "cat_id2" / part) for run in (stopped, whole))
    assert 20 < int(saved) < int(end)
    assert f"SIGTERM: step {saved} is saved" in shown

    result = run(*TWO, "train", *fields, f"--workdir={stopped}")
    assert result.returncode == 0, result.stderr[-3000:]
    check(stopped, whole, [f"cat_id2/{part}"], curves=2)


@pytest.mark.slow
def test_bad_input_ends_both_processes_with_one_line(tmp_path):
    bad = tmp_path / "catalog.jsonl"
    bad.write_text("nonsense\n")
    fields = [
        f"--config.data.{s}_{k}={bad}" for s in ("train", "test") for k in ("queries", "qrels")
    ]
    place = f"--workdir={tmp_path / 'work'}"
    result = run(*TWO, "prepare", CONFIG, place, f"--config.data.catalog={bad}", *fields)
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert f"{bad}:1: found invalid JSON" in errors[0]
    assert "Traceback" not in result.stderr


VARIABLES = dict(zip(processes.VARIABLES, ("localhost:1", "2", "0"), strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"JAX_PROCESS_ID": None},
        {"JAX_PROCESS_ID": "2"},
        {"JAX_PROCESS_ID": "-1"},
        {"JAX_NUM_PROCESSES": "two"},
        {"JAX_COORDINATOR_ADDRESS": "localhost"},
    ],
)
def test_what_says_nothing_of_the_other_processes(monkeypatch, changes):
    for name, value in (VARIABLES | changes).items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as error:
        processes.join()
    found = {name: value for name, value in (VARIABLES | changes).items() if value is not None}
    assert error.value.found == ", ".join(f"{name}={value}" for name, value in found.items())
    assert error.value.expected == (
        "one of these or JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and JAX_PROCESS_ID "
        "below it"
    )


def test_where_nothing_says_who_takes_part():
    """In a process of its own, in which JAX has not started."""
    environment = {n: v for n, v in os.environ.items() if n not in processes.VARIABLES}
    result = subprocess.run(
        [sys.executable, "-m", "catid2_jax.prepare", CONFIG, "--distributed"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(
        "error: --distributed: found neither SLURM nor a Cloud TPU, expected one of these or "
    )
    assert len(result.stderr.splitlines()) == 1


def test_one_process_works_as_ever():
    done = []
    processes.first_alone(lambda: done.append(1))
    processes.wait_for_all("here")
    assert done == [1]
    assert processes.is_first()
