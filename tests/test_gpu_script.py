"""benchmarks/gpu.sh with an interpreter that stands in for Python, and, slowly, in tiny sizes."""

import datetime
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest

from catid2_jax.config import freeze
from catid2_jax.config_file import load_config, override
from catid2_jax.models.t5.shapes import SHAPES
from catid2_jax.resources import config_path

ROOT = pathlib.Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
PARTS = (
    *("tests", "stage_1_bfloat16", "stage_1_float32", "stage_2", "search"),
    *("workdir", "serving"),
)

STAND_IN = """#!/usr/bin/env bash
case "$*" in
  *device_kind*) echo "$CARD" ;;
  *jax.__version__*) echo "jax 1, Python 2" ;;
  *'-m pytest'*) echo "6 passed" ;;
  *--size*) [[ -e $TOGETHER/fixed ]] || { echo oh >&2; exit 4; }; echo "| stage 2 |" ;;
  *--shape*)
    [[ ! -e $TOGETHER/slow ]] || { echo $$ >"$TOGETHER/sleeps"; sleep 10; }
    echo "| queries |"
    ;;
  *) echo "seconds $*" ;;
esac
echo "$*" >>"$TOGETHER/calls"
"""


@pytest.fixture
def begin(tmp_path):
    """Starts the script."""
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (tmp_path / "results.md").write_text("# Benchmarks\n")

    def call(card="gpu|NVIDIA H200", **environment):
        own = {
            "PYTHON": str(python),
            "OUT": str(tmp_path / "out"),
            "RESULTS": str(tmp_path / "results.md"),
            "TOGETHER": str(tmp_path),
            "CARD": card,
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([SCRIPT], env=os.environ | own | environment, **pipes)

    return call


@pytest.fixture
def run(begin):
    """Runs it to its end."""

    def call(**environment):
        with begin(**environment) as script:
            texts = script.communicate(timeout=60)
        return subprocess.CompletedProcess([SCRIPT], script.returncode, *texts)

    return call


def test_a_part_that_failed_is_done_again_and_no_other(run, tmp_path):
    first = run()
    assert first.returncode == 2
    assert first.stderr.splitlines()[-1].startswith(
        "error: stage_2: found exit code 4, expected 0; all it said is in"
    )
    assert (tmp_path / "results.md").read_text() == "# Benchmarks\n"
    (tmp_path / "fixed").touch()
    second = run()
    assert second.returncode == 0, second.stderr
    calls = (tmp_path / "calls").read_text()
    assert calls.count("rqvae_epochs") == 2
    text = (tmp_path / "results.md").read_text()
    today = datetime.date.today().isoformat()
    assert text.startswith(f"# Benchmarks\n\n## On NVIDIA H200, {today}\n\njax 1, Python 2; ")
    measured = [part for part in PARTS if part != "workdir"]
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == measured
    for shown in (
        "6 passed",
        "| queries |",
        "| stage 2 |",
        "seconds benchmarks/rqvae_epochs.py --dtype float",
    ):
        assert text.count(shown) == 1
    # The next round begins anew, and is appended.
    assert run().returncode == 0
    assert (tmp_path / "results.md").read_text().count("## On NVIDIA H200") == 2


def test_a_call_ends_in_time(run, tmp_path):
    (tmp_path / "fixed").touch()
    (tmp_path / "slow").touch()
    first = run(LIMIT="2")
    assert first.returncode in (2, 3)
    assert "search" in first.stdout + first.stderr
    (tmp_path / "slow").unlink()
    assert run().returncode == 0
    assert (tmp_path / "calls").read_text().count("--size") == 1


def test_without_a_gpu(run, tmp_path):
    result = run(card="cpu|cpu")
    assert result.returncode == 2
    assert result.stderr == "error: found the device cpu, expected a GPU, or TINY=1\n"


@pytest.fixture
def commands(run, tmp_path):
    """The command lines of all parts in one of the two sizes."""

    def found(**environment):
        (tmp_path / "fixed").touch()
        done = run(**environment)
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "calls").read_text().splitlines()
        return [line.split() for line in lines if not line.startswith("-c ")]

    return found


@pytest.mark.parametrize("size", [{}, {"TINY": "1"}], ids=["full", "tiny"])
def test_its_commands_have_flags_of_their_scripts(commands, size):
    lines = [line for line in commands(**size) if line[0].startswith("benchmarks/")]
    assert len(lines) == 5
    for script, *words in lines:
        text = (ROOT / script).read_text()
        for flag in (word for word in words if word.startswith("--")):
            assert f'"{flag.replace("--no-", "--")}"' in text


def test_its_work_directory_is_of_a_configuration_that_there_is(commands):
    """Of T5 base's shape."""
    (words,) = [line for line in commands() if line[1] == "catid2_jax.train"]
    assert "--config=quickstart" in words
    config = load_config(config_path("quickstart"), "")
    fields = [word for word in words if word.startswith("--config.")]
    assert override(config, ["gpu.sh", *fields]) == []
    frozen = freeze(config)
    base = {**vars(SHAPES["t5_1_1_base"].config), "dtype": "bfloat16"}
    for name in ("emb_dim", "num_heads", "head_dim", "mlp_dim", "dtype"):
        assert getattr(frozen.t5, name) == base[name]
    assert frozen.t5.num_encoder_layers == base["num_encoder_layers"]
    assert frozen.t5.num_decoder_layers == base["num_decoder_layers"]
    assert frozen.stage == "seq2seq"
    assert (frozen.rqvae_training.steps, frozen.seq2seq_training.steps) == (200, 20)


def test_serving_is_flashrec_s_protocol(commands):
    """50 and 512 beams, and 1 to 64 requests at a time."""
    (words,) = [line for line in commands() if "serve_load" in line[0]]
    assert "--beams 50 512 --clients 1 8 32 64 " in " ".join(words)


def test_a_call_that_is_killed_takes_its_part_with_it(begin, run, tmp_path):
    """The next one does that part alone; two that measure at a time would measure each other."""
    (tmp_path / "fixed").touch()
    (tmp_path / "slow").touch()
    with begin() as script:
        while not (tmp_path / "sleeps").exists() or not (tmp_path / "sleeps").read_text():
            time.sleep(0.01)
        script.terminate()
        assert script.wait(10) == 143
    sleeper = int((tmp_path / "sleeps").read_text())
    deadline = time.monotonic() + 5  # before its sleep is over
    while pathlib.Path(f"/proc/{sleeper}").exists():
        assert time.monotonic() < deadline
    (tmp_path / "slow").unlink()
    assert run().returncode == 0
    calls = (tmp_path / "calls").read_text()
    assert (calls.count("--size"), calls.count("--shape")) == (1, 1)


def test_shellcheck():
    found = shutil.which("shellcheck", path=f"{pathlib.Path(sys.executable).parent}:{os.defpath}")
    if not found:
        pytest.skip("no shellcheck")
    subprocess.run([found, SCRIPT], check=True)


@pytest.mark.slow
def test_tiny_sizes_on_a_cpu(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    results = tmp_path / "results.md"
    own = {
        "TINY": "1",
        "PYTHON": sys.executable,
        "OUT": str(tmp_path / "out"),
        "RESULTS": str(results),
        "PYTHONPATH": str(ROOT),
    }
    for _ in range(4):  # on a slow machine it takes some calls
        done = subprocess.run(
            [SCRIPT], env=os.environ | own, capture_output=True, text=True, timeout=700, check=False
        )
        if done.returncode != 3:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    text = results.read_text()
    assert "in tiny sizes" in text
    assert text.count(" Tflop/s, ") == 2
    assert "| queries per second |" in text
    assert re.search(r"\| 20 \| ours \| 4 \| .* \| 0 of [1-9]\d* \|", text)
