"""Runs an entry point by Ray's JaxTrainer, on the GPUs or TPUs of a Ray cluster.

    python launch/ray_train.py --address=http://head:8265 --workers=16 \
        train --config=seq2seq --workdir=/shared/runs/large

Ray copies this checkout to the cluster, whose machines have what it depends on. A worker that is
lost ends the others, and all start again from the last checkpoint, `--restarts` times; bad input
(exit code 2) is not tried again. `logs` follows the job, `delete` ends it.
"""

import dataclasses
import json
from typing import Annotated, Any

import entry_points
from launching import Job, Plan, Settings, launch, matches, required

from catid2_jax.constraints import NonNegativeInt, PositiveInt


@dataclasses.dataclass(frozen=True, kw_only=True)
class RaySettings(Settings):
    """A job of a Ray cluster.

    Attributes:
        address: of the cluster's dashboard, such as http://head:8265; RAY_ADDRESS if empty.
        workers: processes: one for each GPU, or one for each host of the TPUs.
        accelerator: its name in Ray, such as H100 or TPU-V6E; any GPU if empty.
        topology: the chips of a TPU slice, such as 4x4; empty for GPUs.
        chips: TPU chips of a host.
        restarts: how often the job starts again after workers were lost.
    """

    address: Annotated[str, matches("such as http://head:8265", r"(https?|ray)://\S+")] = ""
    workers: PositiveInt = 1
    accelerator: Annotated[str, matches("a name such as H100 or TPU-V6E", r"[\w-]+")] = ""
    topology: Annotated[str, matches("chips, such as 4x4", r"\d+x\d+(x\d+)?")] = ""
    chips: PositiveInt = 4
    restarts: NonNegativeInt = 100


def plan(settings: RaySettings, job: Job) -> Plan:
    """`ray job submit` of ray_job.py."""
    place = [f"--address={settings.address}"] if settings.address else []
    if job.entry_point == "logs":
        return Plan([["ray", "job", "logs", *place, "--follow", job.name]])
    if job.entry_point == "delete":
        return Plan([["ray", "job", "stop", *place, job.name]])
    if settings.workers > 1:
        entry_points.distributed(job.entry_point, job.arguments)
    _, *command = entry_points.command("python", job.entry_point, job.arguments)
    driver = ["python", "launch/ray_job.py", json.dumps(scaling(settings)), str(settings.restarts)]
    submit = ["ray", "job", "submit", *place, f"--submission-id={job.name}", "--no-wait"]
    return Plan([[*submit, "--working-dir=.", "--", *driver, *command[1:]]])


def scaling(settings: RaySettings) -> dict[str, Any]:
    """The arguments of Ray's ScalingConfig."""
    kind = {"accelerator_type": settings.accelerator} if settings.accelerator else {}
    if not settings.topology:
        return {"num_workers": settings.workers, "use_gpu": True, **kind}
    required(settings, "accelerator")
    return {
        "num_workers": settings.workers,
        "use_tpu": True,
        "topology": settings.topology,
        "resources_per_worker": {"TPU": settings.chips},
        **kind,
    }


if __name__ == "__main__":
    launch(__doc__, RaySettings, plan)
