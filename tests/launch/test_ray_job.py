"""What Ray runs: the driver with a stand-in for Ray, which is not installed for tests."""

import runpy
import sys
import types

import pytest

from tests.launch.goldens import LAUNCH


class Called:
    """Keeps how it was called."""

    def __init__(self, *positional, **named):
        self.positional, self.named = positional, named


class Trainer(Called):
    """Runs the function once, as Ray does in every worker."""

    def fit(self):
        (work,) = self.positional
        Trainer.last = self
        return types.SimpleNamespace(return_value=work(self.named["train_loop_config"]))


@pytest.fixture
def submit(monkeypatch, tmp_path):
    """Runs the driver for a module of the test's own; returns its exit code."""
    for name, content in {
        "ray": {},
        "ray.train": dict.fromkeys(("FailureConfig", "RunConfig", "ScalingConfig"), Called),
        "ray.train.v2": {},
        "ray.train.v2.jax": {"JaxTrainer": Trainer},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "1")

    def call(source, *words):
        (tmp_path / "entry.py").write_text(f"import sys\n{source}\n")
        argv = ["x", '{"num_workers": 2, "use_gpu": true}', "7", "entry", *words]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(LAUNCH / "ray_job.py"), run_name="__main__")
        return end.value.code

    return call


def test_the_command_line_arrives(submit):
    assert submit("sys.exit(2 * (sys.argv[1:] != ['train', '--x=y z']))", "train", "--x=y z") == 0
    named = Trainer.last.named
    assert named["scaling_config"].named == {"num_workers": 2, "use_gpu": True}
    run = named["run_config"].named
    assert run["failure_config"].named == {"max_failures": 7}
    assert run["worker_runtime_env"]["env_vars"] == {"JAX_ENABLE_PREEMPTION_SERVICE": "0"}


@pytest.mark.parametrize(("source", "code"), [("", 0), ("sys.exit()", 0), ("sys.exit(2)", 2)])
def test_the_end_is_the_job_s(submit, source, code):
    """Bad input returns, since Ray tries again whatever raises."""
    assert submit(source) == code


@pytest.mark.parametrize("source", ["sys.exit(143)", "sys.exit('oh')"])
def test_all_else_is_tried_again(submit, source):
    with pytest.raises(RuntimeError, match="entry ended with exit code"):
        submit(source)
