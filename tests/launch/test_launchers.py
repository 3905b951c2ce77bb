"""What the launchers would do, word by word; and what the local one does with real processes."""

import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import pytest

LAUNCH = pathlib.Path(__file__).parent.parent.parent / "launch"


def launch(script, *arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, LAUNCH / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=120,
        cwd=cwd,
    )


def dry_run(script, *arguments, **environment):
    """The lines printed; nothing is found on the path that could have been started."""
    result = launch(script, "--dry_run", *arguments, PATH="/nowhere", **environment)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


TRAIN = ("train", "--config=configs/rqvae.py", "--workdir=my runs/x", "--config.seed=1")
WORDS = ["-m", "catid2_jax.train", *TRAIN[1:]]


@pytest.mark.parametrize(("flags", "kept"), [("", ""), ("--xla_dump_to=a", "--xla_dump_to=a ")])
def test_local_processes(flags, kept):
    options = ("--processes=2", "--devices=3", "--port=1234")
    lines = dry_run("local.py", *options, *TRAIN, XLA_FLAGS=flags)
    assert [shlex.split(line) for line in lines] == [
        [
            "env",
            "JAX_PLATFORMS=cpu",
            f"XLA_FLAGS={kept}--xla_force_host_platform_device_count=3",
            "JAX_COORDINATOR_ADDRESS=localhost:1234",
            "JAX_NUM_PROCESSES=2",
            f"JAX_PROCESS_ID={process}",
            sys.executable,
            *WORDS,
            "--distributed",
        ]
        for process in (0, 1)
    ]


def test_one_local_process_needs_no_others():
    (line,) = dry_run("local.py", "--processes=1", *TRAIN)
    assert shlex.split(line)[-len(WORDS) :] == WORDS


def test_local_processes_of_t5x():
    lines = dry_run("local.py", "--port=1234", "t5x.train", "--gin_file=gin/runs/finetune.gin")
    for process, line in enumerate(lines):
        assert shlex.split(line)[6:] == [
            sys.executable,
            "-m",
            "t5x.train",
            "--gin_file=gin/runs/finetune.gin",
            "--multiprocess_gpu",
            "--coordinator_address=localhost:1234",
            "--process_count=2",
            f"--process_index={process}",
        ]
    assert len(lines) == 2
    (line,) = dry_run("local.py", "--processes=1", "t5x.infer", "--gin_file=x")
    assert shlex.split(line)[-4:] == [sys.executable, "-m", "t5x.infer", "--gin_file=x"]


SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=train
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --time=8:00:00
#SBATCH --partition=a

exec srun --kill-on-bad-exit=1 py -m catid2_jax.train --config=configs/rqvae.py \
'--workdir=my runs/x' --config.seed=1 --distributed
"""
SLURM = ("--python=py", "--nodes=4", "--gpus_per_node=8")
MORE = ("--sbatch=--time=8:00:00", "--sbatch=--partition=a")


def test_slurm():
    assert dry_run("slurm.py", *SLURM, *MORE, *TRAIN) == SCRIPT.splitlines()
    lines = dry_run("slurm.py", "--python=py", "--gpus_per_node=0", "t5x.infer", "--gin_file=x")
    assert lines[3] == "#SBATCH --ntasks-per-node=1"
    assert not [line for line in lines if "gpus" in line]
    assert lines[-1] == "exec srun --kill-on-bad-exit=1 py -m t5x.infer --gin_file=x"
    lines = dry_run("slurm.py", "--python=py", "--nodes=2", "t5x.train")
    assert lines[-1] == "exec srun --kill-on-bad-exit=1 py -m t5x.train --multiprocess_gpu"


def test_the_script_is_given_to_sbatch(tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\n/bin/cat > {tmp_path}/script\nexit 3\n")
    sbatch.chmod(0o755)
    result = launch("slurm.py", *SLURM, *MORE, *TRAIN, PATH=str(tmp_path))
    assert result.returncode == 3
    assert (tmp_path / "script").read_text() == SCRIPT
    subprocess.run(["bash", "-n", tmp_path / "script"], check=True)


def test_tpu_vm(tmp_path):
    place = ("--name=pod", "--zone=us-central2-b")
    expected = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod", "--zone=us-central2-b"]
    remote = "cd catid2_jax && exec .venv/bin/python -m catid2_jax.train --config=configs/rqvae.py"
    remote += " '--workdir=my runs/x' --config.seed=1 --distributed"
    expected += ["--project=p", "--worker=all", f"--command={remote}"]
    (line,) = dry_run("tpu_vm.py", *place, "--project=p", *TRAIN)
    assert shlex.split(line) == expected
    (line,) = dry_run("tpu_vm.py", *place, "--directory=my code", "t5x.infer", "--gin_file=x")
    remote = "cd 'my code' && exec .venv/bin/python -m t5x.infer --gin_file=x"
    assert shlex.split(line) == [*expected[:7], "--worker=all", f"--command={remote}"]

    gcloud = tmp_path / "gcloud"
    gcloud.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/words\nexit 5\n')
    gcloud.chmod(0o755)
    result = launch("tpu_vm.py", *place, "--project=p", *TRAIN, PATH=str(tmp_path))
    assert result.returncode == 5
    assert (tmp_path / "words").read_text().splitlines() == expected[1:]


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("local.py", ("--processes=0", "train"), "found 0 processes of 1 devices, expected at"),
        ("local.py", ("--devices=0", "train"), "found 2 processes of 0 devices"),
        ("local.py", ("t5x.infer",), "found several processes for t5x.infer, expected one"),
        ("slurm.py", ("--nodes=2", "t5x.eval"), "found several processes for t5x.eval"),
        ("slurm.py", ("--nodes=0", "train"), "found 0 nodes of 1 GPUs, expected 1 and 0 or more"),
        ("local.py", ("--port=65536", "train"), "found --port=65536, expected 0 to 65535"),
        ("local.py", ("--port=-1", "train"), "found --port=-1, expected 0 to 65535"),
        ("slurm.py", ("train",), "found no sbatch, expected to be on a machine of a SLURM cluster"),
        (
            "tpu_vm.py",
            ("--name=x", "--zone=y", "train"),
            "found no gcloud, expected Google Cloud's",
        ),
    ],
)
def test_bad_arguments(script, arguments, message):
    result = launch(script, *arguments, PATH="/nowhere")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"error: {message}")


@pytest.mark.parametrize("script", ["local.py", "slurm.py", "tpu_vm.py"])
def test_an_entry_point_that_is_none(script):
    place = ["--name=x", "--zone=y"] if script == "tpu_vm.py" else []
    result = launch(script, *place, "--dry_run", "trian")
    assert result.returncode == 2
    assert "invalid choice: 'trian'" in result.stderr


ENTRY_POINT = """
import os, signal, sys, time
process, what = int(os.environ["JAX_PROCESS_ID"]), sys.argv[1]
if what == "fail":
    sys.exit(7) if process == 1 else signal.signal(signal.SIGTERM, signal.SIG_IGN)
if what == "signal":
    def end(*_):
        open(f"{sys.argv[2]}/{process}.ended", "w").close()
        sys.exit(9)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
if what != "good":
    open(f"{sys.argv[2]}/{process}", "w").close()
    time.sleep(100)
line = f"{process} {os.environ['JAX_NUM_PROCESSES']} {sys.argv[-1]}\\n"
os.write(1, line.encode())  # at once: all write to the same pipe
"""


@pytest.fixture
def fake(tmp_path):
    """A package in place of ours, so that no test waits for JAX."""
    package = tmp_path / "path" / "catid2_jax"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "train.py").write_text(ENTRY_POINT)
    return package.parent


def test_processes_that_end_well(fake):
    result = launch("local.py", "--processes=3", "train", "good", cwd=fake)
    assert result.returncode == 0, result.stderr
    lines = sorted(result.stdout.splitlines())
    assert lines == [f"{process} 3 --distributed" for process in range(3)]


def test_the_first_failure_ends_all(fake, tmp_path):
    """The other process ignores SIGTERM, as JAX's do."""
    started = time.monotonic()
    result = launch("local.py", "train", "fail", tmp_path, cwd=fake)
    assert result.returncode == 7
    assert time.monotonic() - started < 60
    assert result.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(fake, tmp_path, number):
    command = [sys.executable, LAUNCH / "local.py", "train", "signal", tmp_path]
    process = subprocess.Popen(command, cwd=fake)
    while not all((tmp_path / name).exists() for name in "01"):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    assert all((tmp_path / f"{name}.ended").exists() for name in "01")
