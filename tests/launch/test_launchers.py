"""What the launchers are told, and what the local one does with real processes."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.launch.goldens import LAUNCH, call


def launch(script, *arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, LAUNCH / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=120,
        cwd=cwd,
    )


GOOD = """\
project: my-project
zone: us-east5-b
run: large
gke: {cluster: c, image: of-gke}
slurm:
  nodes: 3
  sbatch: [--time=1, --partition=a]
"""


def test_a_flag_goes_before_a_section_and_that_before_what_all_share(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "launch.yaml"
    file.write_text(GOOD + "image: shared\n")
    code, out, err = call("gke.py", f"--launch={file}", "--dry_run", "train")
    assert (code, err) == (0, "")
    assert "image: of-gke" in out
    code, out, _ = call("gke.py", f"--launch={file}", "--image=flag", "--dry_run", "train")
    assert "image: flag" in out
    code, out, _ = call("docker.py", f"--launch={file}", "--dry_run", "train")
    assert "--name=large" in out
    assert " shared -m" in out
    code, out, _ = call("slurm.py", f"--launch={file}", "--sbatch=--mem=1", "--dry_run", "train")
    assert "#SBATCH --nodes=3\n" in out
    assert "#SBATCH --mem=1\n" in out
    assert "--partition" not in out


BAD_FILES = {
    "none": (None, "found No such file or directory, expected a launch.yaml"),
    "no YAML": ("a: [", "found no YAML (while parsing"),
    "a list": ("[1]", "found [1], expected fields, as in launch/launch.yaml"),
    "a field": ("zonee: x", "found the field 'zonee', expected one of zone"),
    "a section": ("gk: {}", "found the field 'gk', expected one of "),
    "a field of a section": ("slurm: {node: 1}", ": slurm: found the field 'node', expected one"),
    "another's field": ("slurm: {topology: 2x2}", ": slurm: found the field 'topology'"),
    "no fields": ("slurm: 3", ": slurm: found 3, expected fields"),
    "a type": ("slurm: {nodes: two}", ": nodes: found 'two', expected an integer"),
    "a range": ("slurm: {nodes: 0}", ": nodes: found 0, expected at least 1"),
    "a zone": ("zone: europe", ": zone: found 'europe', expected a zone, such as us-east5-b"),
    "a project": ("project: My Project", ": project: found 'My Project', expected the id of a"),
    "a bucket": ("bucket: gs://x", ": bucket: found 'gs://x', expected the name of a bucket, wi"),
    "a name": ("run: my_run", ": run: found 'my_run', expected at most 40 lower-case letters"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file(tmp_path, case):
    text, expected = BAD_FILES[case]
    file = tmp_path / "launch.yaml"
    if text is not None:
        file.write_text(text)
    code, out, err = call("slurm.py", f"--launch={file}", "train")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {file}")
    assert expected in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("text", ["gke: {nodes: wrong}", "docker: {accelerator: vax}"])
def test_what_another_launcher_needs_is_not_looked_at(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "launch.yaml"
    file.write_text(text)
    assert call("slurm.py", f"--launch={file}", "--dry_run", "train")[0] == 0


def _maps(inner):
    return st.dictionaries(st.text(max_size=5), inner, max_size=3)


@settings(max_examples=20, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner) | _maps(inner),
        max_leaves=4,
    )
)
def test_any_launch_yaml_is_read_or_refused(value):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "launch.yaml")
        file.write_text(yaml.safe_dump(value), encoding="utf-8")
        code, _, err = call("docker.py", f"--launch={file}", "--image=i", "logs")
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1


CLOUD = ("--project=my-project", "--zone=us-east5-b")


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("local.py", ("--processes=0", "train"), "--processes: found 0, expected at least 1"),
        ("local.py", ("--devices=0", "train"), "--devices: found 0, expected at least 1"),
        ("local.py", ("serve",), "found several processes for serve, expected one"),
        ("local.py", ("logs",), "command line: found argument ENTRY_POINT: invalid choice"),
        ("slurm.py", ("--nodes=2", "report"), "found several processes for report, expected one"),
        ("slurm.py", ("--nodes=0", "train"), "--nodes: found 0, expected at least 1"),
        ("slurm.py", ("--gpus_per_node=-1", "train"), "--gpus_per_node: found -1, expected at"),
        ("local.py", ("--port=65536", "train"), "--port: found 65536, expected at least 0 and at"),
        ("slurm.py", ("train",), "found no command sbatch, expected it on PATH: docs/launch.md"),
        ("slurm.py", ("logs",), "--run: found none, expected the name of the run, or its"),
        ("tpu_vm.py", ("train",), "--project: found none, expected it as a flag or in launch.y"),
        ("tpu_vm.py", ("--project=my-project", "train"), "--zone: found none, expected it as a"),
        ("tpu_vm.py", ("--zone=us-east5", "train"), "--zone: found 'us-east5', expected a zone,"),
        ("tpu_vm.py", ("--accelerator=H100", "train"), "--accelerator: found 'H100', expected a"),
        ("tpu_vm.py", ("--wait=long", "train"), "--wait: found 'long', expected a duration"),
        ("gke.py", (*CLOUD, "train"), "--cluster: found none, expected it as a flag or in"),
        ("gke.py", (*CLOUD, "--cluster=c", "train"), "--image: found none, expected it as a"),
        ("gke.py", ("--topology=4by4", "train"), "--topology: found '4by4', expected chips,"),
        (
            "gke.py",
            (*CLOUD, "--cluster=c", "--image=i", "--topology=1x2", "train"),
            "--topology: found 1x2, expected chips for nodes of 4",
        ),
        (
            "gke.py",
            (*CLOUD, "--cluster=c", "--image=i", "--topology=4x4", "import_data", "csv"),
            "found several processes for import_data, expected one",
        ),
        ("skypilot.py", ("train",), "--bucket: found none, expected it as a flag or in"),
        *(
            (script, (*words, "train", "--workdir=s3://b/run"), "--workdir: found the URL of a b")
            for script, *words in (
                ("local.py", "--processes=2"),
                ("slurm.py", "--nodes=2"),
                ("gke.py", *CLOUD, "--cluster=c", "--image=i", "--topology=4x4"),
                ("gke.py", *CLOUD, "--cluster=c", "--image=i", "--topology=", "--nodes=2"),
                ("skypilot.py", "--accelerators=H100:8", "--nodes=2"),
                ("ray_train.py", "--workers=2"),
            )
        ),
        ("ray_train.py", ("--address=head", "train"), "--address: found 'head', expected such as"),
        ("ray_train.py", ("--topology=4x4", "train"), "--accelerator: found none, expected it as"),
        ("ray_train.py", ("--workers=2", "serve"), "found several processes for serve, expected"),
        ("ray_train.py", ("train",), "found no command ray, expected it on PATH: docs/launch.md"),
        ("docker.py", ("--accelerator=gpu", "train"), "--accelerator: found 'gpu', expected one"),
        ("docker.py", ("--build=maybe", "train"), "command line: found argument --build: found"),
        ("docker.py", ("--runs=gs://b", "--image=i", "train"), "--runs: found 'gs://b', expected"),
        ("slurm.py", ("--nods=1", "train"), "command line: found "),
        ("slurm.py", ("trian",), "command line: found argument ENTRY_POINT: invalid choice: 'tri"),
        ("slurm.py", ("train", "--dry_run"), "--dry_run: found it behind the entry point, expe"),
    ],
)
def test_bad_arguments(script, arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    code, out, err = call(script, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"error: {message}")


def test_help_explains_every_flag():
    code, out, _ = call("gke.py", "--help")
    assert code == 0
    for flag in ("--launch", "--dry_run", "--project", "--topology", "--restarts"):
        assert re.search(rf"{flag}\b.*\n? +\w", out)
    assert "Default: 20." in " ".join(out.split())


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
