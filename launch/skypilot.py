"""Runs an entry point by SkyPilot, as a managed job on GPUs or TPUs of any cloud.

    python launch/skypilot.py --accelerators=H100:8 --nodes=2 --bucket=my-bucket \
        train --config=seq2seq --workdir=/bucket/runs/large

A job that is preempted gets other machines and goes on from its last checkpoint in the bucket; bad
input (exit code 2) is not tried again. SkyPilot removes the machines at the end of the job, however
that is. `logs` follows the job, `delete` ends it and removes its machines.
"""

import dataclasses
import shlex
from typing import Annotated, Any, Literal

import entry_points
from launching import Job, Plan, Settings, launch, matches, required, to_yaml

from catid2_jax.constraints import PositiveInt

PORT = 8476
VARIABLES = f"""\
JAX_COORDINATOR_ADDRESS=$(head -n 1 <<<"$SKYPILOT_NODE_IPS"):{PORT}
export JAX_COORDINATOR_ADDRESS
export JAX_NUM_PROCESSES="$SKYPILOT_NUM_NODES" JAX_PROCESS_ID="$SKYPILOT_NODE_RANK"
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkySettings(Settings):
    """A managed job of SkyPilot.

    Attributes:
        infra: where it may run, such as gcp, gcp/us-east5 or aws; anywhere if empty. `project` and
            `zone` are not used.
        accelerators: per machine, such as H100:8, or a TPU, such as tpu-v6e-8; empty for CPUs.
        cpus: CPUs of a machine, such as 8+.
        nodes: machines, a process each; one for a TPU, whose workers need no more.
        spot: whether machines may be preempted.
        store: where the bucket is: gs or s3.
    """

    infra: str = ""
    accelerators: Annotated[str, matches("a name such as H100:8", r"[\w-]+(:\d+)?")] = ""
    cpus: str = "8+"
    nodes: PositiveInt = 1
    spot: bool = True
    store: Literal["gs", "s3"] = "gs"


def plan(settings: SkySettings, job: Job) -> Plan:
    """`sky jobs launch` of a task."""
    if job.entry_point == "logs":
        return Plan([["sky", "jobs", "logs", "--name", job.name]])
    if job.entry_point == "delete":
        return Plan([["sky", "jobs", "cancel", "--yes", "--name", job.name]])
    if not entry_points.is_in_bucket(job.arguments):
        required(settings, "bucket")
    start = ["sky", "jobs", "launch", "--yes", "--detach-run", "--name", job.name, "{task.yaml}"]
    return Plan([start], {"task.yaml": to_yaml(task(settings, job))})


def task(settings: SkySettings, job: Job) -> dict[str, Any]:
    """The task: what it needs, what is installed, what is run."""
    tpu = settings.accelerators.startswith("tpu-")
    extra = "tpu" if tpu else "gpu" if settings.accelerators else ""
    extras = ",".join(filter(None, ("inspect", "remote", extra)))
    mounted = {"source": f"{settings.store}://{settings.bucket}", "mode": "MOUNT"}
    return {
        "name": job.name,
        "workdir": ".",
        "num_nodes": settings.nodes,
        "resources": {
            **({"infra": settings.infra} if settings.infra else {}),
            **({"accelerators": settings.accelerators} if settings.accelerators else {}),
            **({} if tpu else {"cpus": settings.cpus}),
            "use_spot": settings.spot,
            # Preemptions are recovered from anyway; these are aborts and signals.
            "job_recovery": {"recover_on_exit_codes": [134, 137, 143]},
        },
        **({"file_mounts": {"/bucket": mounted}} if settings.bucket else {}),
        "setup": f"set -e\npython3 -m venv .venv\n.venv/bin/pip install --quiet -e '.[{extras}]'\n",
        "run": _run(settings, job, tpu),
    }


def _run(settings: SkySettings, job: Job, tpu: bool) -> str:
    words = shlex.join(entry_points.command(".venv/bin/python", job.entry_point, job.arguments))
    lines = ""
    if tpu:
        words = " ".join([words, *entry_points.on_tpu(job.entry_point)])
        if job.entry_point in entry_points.ALONE:
            lines = 'test "$SKYPILOT_NODE_RANK" = 0 || exit 0\n'
    elif settings.nodes > 1:
        flags = entry_points.distributed(job.entry_point, job.arguments)
        words, lines = " ".join([words, *flags]), VARIABLES
    return f"set -e\n{lines}exec {words}\n"


if __name__ == "__main__":
    launch(__doc__, SkySettings, plan)
