"""The script of tpu_vm.py on an emulated cloud, with real processes on two workers."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.goldens import LAUNCH

EMULATOR = pathlib.Path(__file__).parent / "emulators" / "cloud"

JOB = """
import os, pathlib, signal, sys, time
bucket, worker = pathlib.Path(os.environ["CLOUD"], "bucket"), pathlib.Path.cwd().parent.name
print(worker, *sys.argv[1:], flush=True)
with open(bucket / f"{worker}.starts", "a") as file:
    file.write("x")
if sys.argv[1] == "wait":
    while not (bucket / "go").exists():
        time.sleep(0.02)
sys.exit(int(sys.argv[2]) if worker == "worker0" else 0)
"""


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """A folder that is the cloud, and one with code to launch, which is the current one."""
    code, place = tmp_path / "code", tmp_path / "cloud"
    (code / "catid2_jax").mkdir(parents=True)
    (code / "catid2_jax" / "__init__.py").touch()
    (code / "catid2_jax" / "train.py").write_text(JOB)
    (place / "bucket").mkdir(parents=True)
    monkeypatch.chdir(code)
    monkeypatch.setenv("CLOUD", str(place))
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PATH", f"{EMULATOR}:{os.environ['PATH']}")
    # The launcher has the package; the job has the code that was copied, in its folder.
    yield place
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(path.joinpath("cwd").readlink()).startswith(str(place)):
                os.kill(int(path.name), signal.SIGKILL)


def command(*words, flags=()):
    return [
        *(sys.executable, LAUNCH / "tpu_vm.py", "--project=my-project", "--zone=us-east5-b"),
        *("--run=run", "--bucket=", "--poll=0.05", "--keep=100", *flags, *words),
    ]


def launch(*words, flags=()):
    return subprocess.run(
        command(*words, flags=flags), capture_output=True, text=True, timeout=60, check=False
    )


@contextlib.contextmanager
def started(*words):
    """A launcher in a session of its own, and the file that it prints to."""
    with (
        open("../log", "w", encoding="utf-8") as log,
        subprocess.Popen(
            command(*words), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        ) as process,
    ):
        yield process, pathlib.Path("../log")


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def starts(cloud, worker=0):
    path = cloud / "bucket" / f"worker{worker}.starts"
    return path.read_text() if path.exists() else ""


def calls(cloud, verb):
    lines = (cloud / "calls").read_text().splitlines()
    return [line for line in lines if f" {verb} " in line]


def test_a_job_runs_on_all_workers_and_the_tpu_is_gone_afterwards(cloud):
    result = launch("train", "work", "7")
    assert result.returncode == 7, result.stdout + result.stderr
    assert "worker0 work 7 --distributed" in result.stdout
    assert (starts(cloud), starts(cloud, 1)) == ("x", "x")
    assert not (cloud / "state").exists()
    (created,) = calls(cloud, "create")
    assert "--spot" in created
    assert len(calls(cloud, "delete")) == 1


@pytest.mark.slow
def test_a_verb_of_one_process_runs_on_one_worker(cloud):
    source = pathlib.Path("catid2_jax/train.py")
    source.rename("catid2_jax/import_data.py")
    assert launch("import_data", "work", "0").returncode == 0
    assert (starts(cloud), starts(cloud, 1)) == ("x", "")


@pytest.mark.slow
def test_a_preempted_tpu_is_asked_for_again(cloud):
    with started("train", "wait", "0") as (process, log):
        wait_for(lambda: starts(cloud) and starts(cloud, 1))
        for worker in cloud.glob("worker*"):
            job = subprocess.run(
                ["pgrep", "-f", "[r]un/job.sh"], cwd=worker, capture_output=True, check=False
            )
            assert job.returncode == 0
        (cloud / "state").write_text("SUSPENDED\n")
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(path.joinpath("cwd").readlink()).startswith(str(cloud)):
                    os.kill(int(path.name), signal.SIGKILL)
        wait_for(lambda: starts(cloud) == "xx")
        (cloud / "bucket" / "go").touch()
        assert process.wait(30) == 0
        shown = log.read_text()
    assert "run was preempted" in shown
    assert len(calls(cloud, "create")) == 2
    assert not (cloud / "state").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_launcher_that_is_gone_ends_no_job(cloud, number):
    with started("train", "wait", "0") as (process, log):
        wait_for(lambda: starts(cloud) and starts(cloud, 1))
        # As a terminal does, or a machine that is switched off; or to the launcher alone.
        whole = number in (signal.SIGINT, signal.SIGKILL)
        (os.killpg if whole else os.kill)(process.pid, number)
        code = process.wait(30)
        shown = log.read_text()
    assert code == {signal.SIGINT: 130, signal.SIGHUP: 143, signal.SIGKILL: -9}[number]
    assert ("the job goes on" in shown) == (number != signal.SIGKILL)
    assert (cloud / "state").read_text() == "ACTIVE\n"
    other = launch("train", "wait", "1")
    assert other.returncode == 2
    assert other.stderr.splitlines() == [
        "error: found another job on run, expected the same command, or another --run"
    ]
    assert (cloud / "state").read_text() == "ACTIVE\n"
    with started("train", "wait", "0") as (process, log):
        time.sleep(0.5)
        (cloud / "bucket" / "go").touch()
        assert process.wait(30) == 0
        assert "worker0 wait 0 --distributed" in log.read_text()
    assert starts(cloud) == "x"
    assert not (cloud / "state").exists()


def test_delete(cloud):
    (cloud / "state").write_text("ACTIVE\n")
    result = launch("delete")
    assert result.returncode == 0, result.stderr
    assert not (cloud / "state").exists()


@pytest.mark.parametrize(
    ("flags", "state", "message"),
    [
        (["--bucket=other"], None, "found no bucket other, expected one"),
        (
            [],
            "no_quota",
            "gcloud: found ERROR: (gcloud) Quota exceeded, expected a TPU v6e-8 in us-east5-b",
        ),
        ([], "FAILED", "found that run was not given in 6h, expected room in us-east5-b"),
    ],
)
def test_what_the_cloud_refuses(cloud, flags, state, message):
    if state == "FAILED":
        (cloud / "state").write_text("FAILED\n")
    elif state:
        (cloud / state).touch()
    result = launch("train", "work", "0", flags=flags)
    assert (result.returncode, result.stderr) == (2, f"error: {message}\n"), result.stdout
    assert not (cloud / "state").exists()
