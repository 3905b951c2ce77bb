"""Every launcher's dry run as it stands in golden/, and the files that it writes by their linters.

`python -m tests.launch.goldens` renews golden/.
"""

import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import pytest
import yaml

from catid2_jax.cli import VERBS
from tests.launch.goldens import CASES, GOLDEN, LAUNCH, render


@pytest.fixture(scope="module")
def dry_runs(tmp_path_factory):
    """Name of a case -> the folder in which it was run, and what it printed."""
    folders = {name: tmp_path_factory.mktemp(name) for name in CASES}
    return {name: (folder, render(name, folder)) for name, folder in folders.items()}


@pytest.mark.parametrize("name", CASES)
def test_dry_run(dry_runs, name):
    _, text = dry_runs[name]
    assert text == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_there_are_no_others():
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


def written(dry_runs, pattern):
    found = sorted(path for folder, _ in dry_runs.values() for path in folder.rglob(pattern))
    assert found
    return found


@pytest.fixture
def shellcheck():
    found = shutil.which("shellcheck", path=f"{pathlib.Path(sys.executable).parent}:{os.defpath}")
    return found or pytest.skip("no shellcheck")


def test_shell_scripts(dry_runs, shellcheck):
    subprocess.run([shellcheck, *written(dry_runs, "*.sh")], check=True)
    emulators = (LAUNCH.parent / "tests/launch/emulators").glob("*/*")
    subprocess.run([shellcheck, *emulators], check=True)


def test_shell_commands_of_tasks(dry_runs, shellcheck):
    for path in written(dry_runs, "task.yaml"):
        task = yaml.safe_load(path.read_text())
        for script in (task["setup"], task["run"]):
            command = [shellcheck, "--shell=bash", "-"]
            subprocess.run(command, input=script, text=True, check=True)


def test_yaml_files(dry_runs):
    pytest.importorskip("yamllint")
    from yamllint import linter
    from yamllint.config import YamlLintConfig

    rules = """
extends: default
rules:
  line-length: disable
  document-start: disable
  braces: {max-spaces-inside: 1}
  comments: {min-spaces-from-content: 1}
"""
    for path in (*written(dry_runs, "*.yaml"), *LAUNCH.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        assert list(linter.run(text, YamlLintConfig(rules))) == [], path


def jobs(dry_runs):
    for path in written(dry_runs, "jobset.yaml"):
        jobset = yaml.safe_load(path.read_text())
        (replicated,) = jobset["spec"]["replicatedJobs"]
        yield jobset, replicated["template"]["spec"]


def test_the_jobs_of_a_jobset_are_valid(dry_runs):
    """The part that Kubernetes itself knows: a Job, which JobSet makes of the template."""
    validator = pytest.importorskip("kubernetes_validate")
    for jobset, spec in jobs(dry_runs):
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": spec}
        validator.validate(job, validator.latest_version(), strict=True)
        assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"


def test_bad_input_is_not_tried_again_and_all_else_is(dry_runs):
    for jobset, spec in jobs(dry_runs):
        (rule,) = spec["podFailurePolicy"]["rules"]
        (container,) = spec["template"]["spec"]["containers"]
        assert rule["onExitCodes"]["containerName"] == container["name"]
        assert rule["onExitCodes"]["values"] == [2]
        policy = jobset["spec"]["failurePolicy"]
        (rule,) = policy["rules"]
        assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
        assert policy["maxRestarts"] > 0
        assert spec["backoffLimit"] == 0  # one pod that fails ends all, which start together
        assert spec["template"]["spec"]["restartPolicy"] == "Never"
        assert jobset["spec"]["ttlSecondsAfterFinished"]


def test_the_first_pod_is_the_coordinator_of_all(dry_runs):
    folder, _ = dry_runs["gke_gpu"]
    (path,) = folder.rglob("jobset.yaml")
    jobset = yaml.safe_load(path.read_text())
    (replicated,) = jobset["spec"]["replicatedJobs"]
    spec = replicated["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    environment = {variable["name"]: variable for variable in container["env"]}
    host, _, port = environment["JAX_COORDINATOR_ADDRESS"]["value"].partition(":")
    # JobSet's host names: job set, replicated job, its index, the pod's; in the set's domain.
    assert host == f"{jobset['metadata']['name']}-{replicated['name']}-0-0.large"
    assert container["ports"] == [{"containerPort": int(port)}]
    assert environment["JAX_NUM_PROCESSES"]["value"] == str(spec["completions"]) == "2"
    assert spec["completionMode"] == "Indexed"


def test_a_queue_of_the_example_has_room_for_the_job_of_the_example(dry_runs):
    objects = {d["kind"]: d for d in yaml.safe_load_all((LAUNCH / "kueue.yaml").read_text())}
    folder, _ = dry_runs["gke_tpu"]
    (path,) = folder.rglob("jobset.yaml")
    jobset = yaml.safe_load(path.read_text())
    assert jobset["metadata"]["labels"] == {
        "kueue.x-k8s.io/queue-name": objects["LocalQueue"]["metadata"]["name"]
    }
    assert jobset["metadata"]["namespace"] == objects["LocalQueue"]["metadata"]["namespace"]
    queue = objects["ClusterQueue"]
    assert objects["LocalQueue"]["spec"]["clusterQueue"] == queue["metadata"]["name"]
    (group,) = queue["spec"]["resourceGroups"]
    (flavor,) = group["flavors"]
    assert flavor["name"] == objects["ResourceFlavor"]["metadata"]["name"]
    quota = {resource["name"]: resource["nominalQuota"] for resource in flavor["resources"]}
    (replicated,) = jobset["spec"]["replicatedJobs"]
    spec = replicated["template"]["spec"]
    pod = spec["template"]["spec"]
    requests = pod["containers"][0]["resources"]["requests"]
    assert set(requests) == set(quota) == set(group["coveredResources"])
    assert requests["google.com/tpu"] * spec["parallelism"] <= quota["google.com/tpu"]
    labels = objects["ResourceFlavor"]["spec"]["nodeLabels"]
    assert labels.items() <= pod["nodeSelector"].items()


def test_dockerfile_keeps_its_checkout_small():
    ignored = (LAUNCH.parent / ".dockerignore").read_text().split()
    assert {".git", ".venv", "runs"} <= set(ignored)
    assert "COPY . ." in (LAUNCH / "job.Dockerfile").read_text()


NEEDED = {
    "local": {"processes": 1},
    "slurm": {},
    "tpu_vm": {"project": "my-project", "zone": "us-east5-b"},
    "gke": {"project": "my-project", "zone": "us-east5-b", "cluster": "c", "image": "i"},
    "skypilot": {"bucket": "my-bucket"},
    "ray_train": {},
    "docker": {"image": "i"},
}


@pytest.mark.parametrize("launcher", NEEDED)
def test_every_entry_point(launcher, monkeypatch):
    monkeypatch.syspath_prepend(str(LAUNCH))
    script = runpy.run_path(str(LAUNCH / f"{launcher}.py"))
    (kind,) = (
        value for name, value in script.items() if name.endswith("Settings") and name != "Settings"
    )
    names = script["entry_points"].NAMES
    assert set(names) == {*VERBS, "t5x.train", "t5x.infer", "t5x.eval"}
    for name in names:
        plan = script["plan"](kind(**NEEDED[launcher]), script["Job"](name, ("--x=y z",), "run"))
        text = "\n".join((*plan.files.values(), *(" ".join(line) for line in plan.commands)))
        module, _, of_t5x = f"catid2_jax.{name}".partition("t5x.")
        for word in filter(None, (f"{module}t5x" if of_t5x else module, of_t5x)):
            assert re.search(rf"(?<![\w.]){re.escape(word)}(?![\w.])", text)
        assert "--x=y z" in text
