"""The launchers know the entry points that the package has, and these can be one of several."""

import importlib
import json
import pathlib
import runpy
import subprocess
import sys

import pytest

from catid2_jax.cli import VERBS

ROOT = pathlib.Path(__file__).parent.parent.parent
LAUNCH = ROOT / "launch"


def test_every_verb_that_runs_a_configuration_can_be_launched():
    """These, and no others, are `run(config, workdir)` behind the flags that `cli.main` reads."""
    runs = [verb for verb in VERBS if hasattr(importlib.import_module(f"catid2_jax.{verb}"), "run")]
    launched = runpy.run_path(str(LAUNCH / "entry_points.py"))
    assert launched["VERBS"] == tuple(runs)
    assert set(launched["ALONE"]) == set(VERBS) - set(runs)


def in_two_processes(verb, *arguments):
    result = subprocess.run(
        [sys.executable, LAUNCH / "local.py", "--processes=2", verb, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_two_processes_export_and_inspect_what_the_first_one_writes(tmp_path):
    small = f"--config={ROOT / 'tests' / 'launch' / 'small.py'}"
    work = tmp_path / "work"
    in_two_processes("export", small, f"--workdir={work}")
    files = {path.name for path in (work / "cat_id2" / "export").iterdir()}
    assert files == {
        "arrays.npz",
        "bundle.json",
        "catalog.parquet",
        "codebooks.npy",
        "constraints.jsonl",
        "docids.jsonl",
        "export.json",
        "ids.tsv",
        "products.txt",
        "retrieve.stablehlo",
        "vocabulary.model",
    }

    catalog = tmp_path / "catalog.jsonl"  # with a record that is set aside, which is read again
    made = (work / "synthetic" / "catalog.jsonl").read_text(encoding="utf-8")
    catalog.write_text(made + '{"id": "bad"}\n', encoding="utf-8")
    data = [f"--config.data.catalog={catalog}"]
    for split in ("train", "test"):
        for kind, suffix in (("queries", "jsonl"), ("qrels", "txt")):
            path = work / "synthetic" / f"{kind}.{split}.{suffix}"
            data.append(f"--config.data.{split}_{kind}={path}")
    shown = in_two_processes("inspect", small, f"--workdir={tmp_path / 'health'}", *data)
    assert shown.count("everything is in") == 1
    (reject,) = (tmp_path / "health" / "inspect.rejected.jsonl").read_text().splitlines()
    assert json.loads(reject)["record"] == '{"id": "bad"}'
