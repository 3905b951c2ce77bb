"""The batch script of slurm.py on an emulated cluster, with real processes."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.goldens import LAUNCH

EMULATOR = pathlib.Path(__file__).parent / "emulators" / "slurm"
ROOT = LAUNCH.parent

JOB = """
import os, pathlib, signal, sys, time
task = os.environ["SLURM_PROCID"]
starts = pathlib.Path(f"{task}.starts")
with starts.open("a") as file:
    file.write("x")
if sys.argv[1] == "fail":
    sys.exit(3 if task == "1" else 0)
def save(*_):
    pathlib.Path(f"{task}.saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
while sys.argv[1] == "wait" and len(starts.read_text()) < 2:
    pathlib.Path(f"{task}.waits").touch()
    time.sleep(0.02)
print("done", *sys.argv[1:], flush=True)
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A current folder with a package in place of ours, and SLURM's commands."""
    package = tmp_path / "catid2_jax"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "train.py").write_text(JOB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{EMULATOR}:{os.environ['PATH']}")
    return tmp_path


def command(*words):
    return [sys.executable, LAUNCH / "slurm.py", "--gpus_per_node=0", *words]


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_worst_exit_code_of_all_tasks_is_the_job_s(cluster):
    code = subprocess.run(command("--nodes=2", "train", "fail"), check=False).returncode
    assert code == 3
    assert (cluster / "0.starts").read_text() == (cluster / "1.starts").read_text() == "x"


def test_a_job_whose_time_is_over_saves_and_goes_back_into_the_queue(cluster):
    with subprocess.Popen(command("--nodes=2", "train", "wait")) as process:
        wait_for(lambda: (cluster / "0.waits").exists() and (cluster / "1.waits").exists())
        batch = int((cluster / "batch.pid").read_text())
        os.kill(batch, signal.SIGUSR1)
        assert process.wait(30) == 0
    assert (cluster / "0.saved").exists()
    assert (cluster / "1.saved").exists()
    log = (cluster / "slurm-train.log").read_text()
    assert log.count("done wait --distributed") == 2
    assert (cluster / "0.starts").read_text() == "xx"


def test_a_job_that_is_cancelled_saves_and_does_not_come_back(cluster):
    with subprocess.Popen(command("train", "wait")) as process:
        wait_for((cluster / "0.waits").exists)
        os.kill(int((cluster / "batch.pid").read_text()), signal.SIGTERM)
        assert process.wait(30) == 143
    assert (cluster / "0.saved").exists()
    assert (cluster / "0.starts").read_text() == "x"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["prepare", "inspect"])
def test_two_tasks_of_the_package_itself(tmp_path, monkeypatch, verb):
    """JAX reads who takes part in the variables that SLURM sets, and the tasks meet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{EMULATOR}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    small = f"--config={ROOT / 'tests' / 'launch' / 'small.py'}"
    code = subprocess.run(
        command("--nodes=2", verb, small, f"--workdir={tmp_path / 'work'}"),
        check=False,
        timeout=300,
    ).returncode
    log = (tmp_path / f"slurm-{verb}.log").read_text()
    assert code == 0, log
    assert log.count("everything is in") == 1  # the first one speaks
    made = "steps/prepare.json" if verb == "prepare" else "inspect.json"
    assert (tmp_path / "work" / made).exists()
