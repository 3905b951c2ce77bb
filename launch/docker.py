"""Builds the image of this checkout, and runs an entry point in it on this machine.

    python launch/docker.py --image=catid2 --accelerator=cuda train --config=quickstart

The folder runs/ of this machine is that of the container. The container runs detached, and one that
failed or was killed is started again, up to `--restarts` times; `logs` follows what it writes,
`delete` ends it. With `--push` the image is pushed, for GKE.
"""

import dataclasses
import pathlib
from typing import Literal

import entry_points
from launching import Job, Plan, Settings, launch, required

from catid2_jax.constraints import LocalPath, NonNegativeInt

EXTRAS = {"cpu": "inspect,remote", "cuda": "inspect,remote,gpu", "tpu": "inspect,remote,tpu"}
FLAGS = {"cpu": [], "cuda": ["--gpus=all"], "tpu": ["--privileged", "--net=host"]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DockerSettings(Settings):
    """A container of this machine.

    Attributes:
        accelerator: what JAX runs on: cpu, cuda or tpu.
        build: whether the image is built.
        push: whether the image is pushed to its registry.
        runs: folder of this machine that has the work directories.
        restarts: how often a container that failed is started again.
    """

    accelerator: Literal["cpu", "cuda", "tpu"] = "cpu"
    build: bool = True
    push: bool = False
    runs: LocalPath = "runs"
    restarts: NonNegativeInt = 3


def plan(settings: DockerSettings, job: Job) -> Plan:
    """Builds, pushes, runs and follows."""
    logs = ["docker", "logs", "--follow", job.name]
    delete = ["docker", "rm", "--force", job.name]
    if job.entry_point in ("logs", "delete"):
        return Plan([logs if job.entry_point == "logs" else delete])
    required(settings, "image")
    extras = f"EXTRAS={EXTRAS[settings.accelerator]}"
    build = ["docker", "build", "--file=launch/job.Dockerfile", f"--tag={settings.image}"]
    _, *command = entry_points.command("python", job.entry_point, job.arguments)
    run = [
        *("docker", "run", "--detach", "--init", f"--name={job.name}"),
        f"--restart={f'on-failure:{settings.restarts}' if settings.restarts else 'no'}",
        "--stop-timeout=30",  # seconds that it has to save
        f"--mount=type=bind,source={pathlib.Path(settings.runs).absolute()},target=/catid2/runs",
        *FLAGS[settings.accelerator],
        *(settings.image, *command),
    ]
    return Plan(
        [
            *([[*build, f"--build-arg={extras}", "."]] if settings.build else []),
            *([["docker", "push", settings.image]] if settings.push else []),
            run,
            logs,
        ]
    )


if __name__ == "__main__":
    launch(__doc__, DockerSettings, plan)
