"""The image and the deployment of the service say what the service understands."""

import pathlib
import re

import pytest

from catid2_jax.serve import _parser
from catid2_jax.serving.config import ServeConfig
from catid2_jax.serving.server import ADMIN_KEY, KEY

yaml = pytest.importorskip("yaml")
LAUNCH = pathlib.Path(__file__).parents[2] / "launch"


@pytest.fixture
def objects():
    text = (LAUNCH / "serve.yaml").read_text()
    return {found["kind"]: found for found in yaml.safe_load_all(text)}


@pytest.fixture
def instructions():
    """Instruction -> its last text in the Dockerfile."""
    lines = (LAUNCH / "serve.Dockerfile").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines if re.match(r"[A-Z]+ ", line))


def flags_of(*words):
    return vars(_parser("serve").parse_args([word for text in words for word in text]))


def test_a_validator_knows_every_field(objects):
    validator = pytest.importorskip("kubernetes_validate")
    for found in objects.values():
        validator.validate(found, validator.latest_version(), strict=True)


def test_the_deployment_starts_and_ends_the_service(objects, instructions):
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    entry = yaml.safe_load(instructions["ENTRYPOINT"])
    assert entry[:2] == ["catid2", "serve"]
    flags = flags_of(entry[2:], container["args"])
    assert flags_of(entry[2:], yaml.safe_load(instructions["CMD"]))["workdir"] == "/model"
    config = ServeConfig(**{name: value for name, value in flags.items() if name != "workdir"})
    assert config.host == "0.0.0.0"
    (port,) = container["ports"]
    assert port["containerPort"] == config.port == int(instructions["EXPOSE"])
    assert {variable["name"] for variable in container["env"]} == {KEY, ADMIN_KEY}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    cache = re.search(r"JAX_COMPILATION_CACHE_DIR=(\S+)", instructions["ENV"])[1]
    assert {flags["workdir"], cache} <= mounts
    user = objects["Deployment"]["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    assert int(instructions["USER"]) == user
    # It has time to be taken out of the service, and then to answer what it has.
    grace = objects["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > config.drain + config.timeout
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < config.drain


def test_the_probes_ask_for_routes_that_need_no_key(objects):
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    paths = {
        kind: container[kind]["httpGet"]["path"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert paths == {
        "startupProbe": "/ready",
        "readinessProbe": "/ready",
        "livenessProbe": "/health",
    }


def test_the_labels_agree(objects):
    label = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert objects[kind]["spec"]["selector"]["matchLabels"] == label
    assert objects["Service"]["spec"]["selector"] == label
    update = objects["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0
