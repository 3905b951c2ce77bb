"""Every extra, alone and together, installs in a fresh environment and starts every command.

Each takes minutes, and gigabytes of disk until it is done: choose some by `-k`. pip's own settings
hold, such as `PIP_CONSTRAINT=FILE` with a line that keeps PyTorch to a build without CUDA. The
extras `gpu` and `tpu` are left out: they are JAX's, and are of use only where the devices are.
"""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

PACKAGE = pathlib.Path(__file__).parents[2] / "catid2_jax"
VERBS = sorted(
    path.stem
    for path in PACKAGE.glob("*.py")
    if '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8")
)
WORKS = {  # what an extra is for, as a program that ends with an error unless it works
    "": "from catid2_jax.checkpoints import folder, tokenizer",
    "beam": "from catid2_jax.steps import embed_beam",
    "bert": "import tokenizers; tokenizers.Tokenizer.encode_batch_fast",
    "benchmarks": "import torch, transformers, vector_quantize_pytorch",
    "data": "import datasets, duckdb; duckdb.sql('SELECT 1').arrow()",
    "docs": "import latex2mathml.converter, material, mkdocs, mkdocstrings_handlers.python",
    "embed": "import sentence_transformers",
    "inspect": "import ftfy, jinja2, py3langid",
    "remote": "import gcsfs, s3fs",
    "report": "from catid2_jax.reporting import writing",
    "serve": "from catid2_jax.serving import server",
    "oracles": "import torch; from transformers import AutoTokenizer, T5ForConditionalGeneration",
    "seqio": "from catid2_jax.t5x import seqio_tasks, vocabulary",
    "t5x": "import cached_property, chex, clu.metrics, fiddle, gin, grain.python, seqio",
    "test": "import beartype, hypothesis, ir_measures, mypy, ot, pytest, ruff, tensorboard, xdist",
    "tfds": "import mlcroissant; from catid2_jax.data.tfds import esci, parquet_shards",
}
COMBINATIONS = [
    *([extra] if extra else [] for extra in WORKS),
    ["bert", "data", "embed", "inspect", "oracles", "remote", "report", "seqio", "t5x", "tfds"],
    sorted(filter(None, WORKS)),
]


@pytest.fixture
def python(tmp_path):
    """The interpreter of a fresh environment, which goes away with its gigabytes."""
    subprocess.run((sys.executable, "-m", "venv", tmp_path / "venv"), check=True)
    yield tmp_path / "venv" / "bin" / "python"
    shutil.rmtree(tmp_path / "venv")


def check(*command, cwd):
    """Runs a command that is to end well, and returns all that it printed."""
    run = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert run.returncode == 0, f"{command}\n{run.stdout}"
    return run.stdout


def start(python, extras, cwd):
    """Starts every command, and what the extras are for in one process."""
    assert "No broken requirements found" in check(python, "-m", "pip", "check", cwd=cwd)
    for verb in VERBS:
        assert verb in check(python, "-m", f"catid2_jax.{verb}", "--help", cwd=cwd)
    check(python.parent / "catid2", "--help", cwd=cwd)
    check(python, "-c", "\n".join([WORKS[""], *(WORKS[extra] for extra in extras)]), cwd=cwd)
    if "tfds" in extras:
        check(python.parent / "tfds", "build", "--help", cwd=cwd)


def install(python, wheel, *extras):
    wanted = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
    check(python, "-m", "pip", "install", "-q", wanted, cwd=wheel.parent)


@pytest.mark.parametrize("extras", COMBINATIONS, ids=lambda extras: "+".join(extras) or "core")
def test_a_fresh_install_starts_every_command(extras, python, wheel, tmp_path):
    install(python, wheel, *extras)
    start(python, extras, tmp_path)


def test_extras_installed_one_after_another_start_every_command(python, wheel, tmp_path):
    extras = ["data", "seqio", "tfds"]
    install(python, wheel)
    for extra in extras:
        install(python, wheel, extra)
    start(python, extras, tmp_path)


def test_every_extra_is_tried():
    text = (PACKAGE.parent / "setup.py").read_text(encoding="utf-8")
    declared = re.findall(r'^ {8}"(\w+)": ', text.split("extras_require", 1)[1], re.MULTILINE)
    assert {*declared} - {"gpu", "tpu"} == {*WORKS} - {""}
