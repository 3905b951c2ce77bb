"""The launchers know the entry points that the package has."""

import importlib
import pathlib
import runpy

from catid2_jax.cli import VERBS

LAUNCH = pathlib.Path(__file__).parent.parent.parent / "launch"


def test_every_verb_that_runs_a_configuration_can_be_launched():
    """These, and no others, are `run(config, workdir)` behind the flags that `cli.main` reads."""
    runs = [verb for verb in VERBS if hasattr(importlib.import_module(f"catid2_jax.{verb}"), "run")]
    assert set(VERBS) - set(runs) == {"convert_checkpoint", "import_data"}
    assert runpy.run_path(str(LAUNCH / "entry_points.py"))["VERBS"] == tuple(runs)
