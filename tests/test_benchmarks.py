"""Benchmarks say what they take, configurations can be frozen, and the commands on paper exist."""

import dataclasses
import pathlib
import re
import runpy
import sys

import pytest

from catid2_jax.config import freeze
from catid2_jax.losses import LITERAL, TIGER, LossWeights
from catid2_jax.resolution import resolve_systems

ROOT = pathlib.Path(__file__).parent.parent
SHARED = {"id_proxies", "turns"}  # what several benchmarks import
SCRIPTS = sorted(p for p in (ROOT / "benchmarks").glob("*.py") if p.stem not in SHARED)
CONFIGS = sorted([*(ROOT / "configs").rglob("*.py"), *(ROOT / "benchmarks/configs").glob("*.py")])

PAPER = "configs/paper/table2.py"


def relative(path):
    return str(path.relative_to(ROOT))


def help_of(script, monkeypatch, capsys):
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(sys, "argv", [script.name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    return capsys.readouterr().out


def commands(text, script):
    """The command lines of a benchmark in a text, those that go on in the next line joined."""
    text = re.sub(r"\\\n\s*", "", text)
    return re.findall(rf"python benchmarks/{script.name}([^\n`#]*)", text)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_benchmark_has_the_flags_of_its_commands(script, monkeypatch, capsys):
    """No peer needs to be installed for that."""
    known = help_of(script, monkeypatch, capsys)
    assert known.startswith(f"usage: {script.name}")
    own = commands(script.read_text(encoding="utf-8"), script)
    assert own
    for line in own + commands((ROOT / "BENCHMARKS.md").read_text(encoding="utf-8"), script):
        for flag in re.findall(r"--[\w-]+", line):
            assert re.search(rf"{flag}\b", known), flag


def test_every_benchmark_is_tried():
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert names - {script.stem for script in SCRIPTS} == SHARED
    assert {"id_schemes", "search"} < names


@pytest.mark.parametrize(
    "path", [ROOT / "BENCHMARKS.md", *SCRIPTS, *CONFIGS], ids=lambda path: path.name
)
def test_files_named_in_commands_exist(path):
    found = re.findall(r"\b(?:benchmarks|configs)/[\w/]+\.py\b", path.read_text(encoding="utf-8"))
    assert found
    for name in found:
        assert (ROOT / name).is_file(), name


def frozen(path, system, monkeypatch, tmp_path):
    """The configuration with the system named after the colon, or its own if that is empty."""
    monkeypatch.chdir(tmp_path)  # where no data are: nothing is read
    get_config = runpy.run_path(str(path))["get_config"]
    if relative(path) != PAPER:
        return freeze(get_config(*filter(None, [system])))
    config = get_config(*filter(None, [system and f"{system}_512"]))
    config.embedding.path = "vectors.npy"  # the user's
    return freeze(config)


@pytest.mark.parametrize("system", ["", "tiger"])
@pytest.mark.parametrize("path", CONFIGS, ids=relative)
def test_a_configuration_is_of_the_system_that_is_asked_for(path, system, monkeypatch, tmp_path):
    """CAT-ID2 without one, with all of Eq. 8; TIGER is Eq. 3."""
    config = frozen(path, system, monkeypatch, tmp_path)
    first, *others = resolve_systems(config).values()
    assert first.name == (system or "cat_id2")
    assert [other.name for other in others] in ([], ["bm25"])
    literal = path.name == "table2.py"
    expected = LITERAL if literal else LossWeights()
    if system:
        expected = dataclasses.replace(TIGER, norm_floor=expected.norm_floor)
    assert first.config.loss_weights == expected
    assert (first.config.rqvae.linear_path == "none") == literal
    assert (first.config.rqvae.levels, first.config.rqvae.category_levels) == (4, 3)


@pytest.mark.parametrize(
    ("path", "of", "sections"),
    [
        ("configs/seq2seq.py", "configs/rqvae.py", ()),
        ("configs/quickstart.py", "configs/seq2seq.py", ("t5", "seq2seq", "seq2seq_training")),
    ],
)
def test_configurations_that_share_a_stage_say_the_same_of_it(
    path, of, sections, monkeypatch, tmp_path
):
    """Each shows its numbers; the IDs of one are used with the other."""
    one, other = (frozen(ROOT / name, "", monkeypatch, tmp_path) for name in (path, of))
    stage_1 = ("data", "embedding", "rqvae", "loss_weights", "rqvae_training", "docids")
    for section in (*stage_1, *sections):
        assert getattr(one, section) == getattr(other, section), section
