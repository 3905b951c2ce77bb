"""Runs an entry point on a GKE cluster, as a JobSet that Kueue admits.

    python launch/gke.py --project=my-project --zone=us-east5-b --cluster=my-cluster \
        --image=us-docker.pkg.dev/my-project/catid2/catid2 --bucket=my-bucket \
        --accelerator=tpu-v6e-slice --topology=2x4 \
        train --config=seq2seq --workdir=/bucket/runs/large

The image is that of launch/docker.py. A job whose node is preempted or fails is started again as a
whole, up to `--restarts` times, and goes on from its last checkpoint in the bucket; bad input (exit
code 2) ends it. It is removed a day after its end; `logs` follows it, `delete` removes it. With
`--xpk=true` the same is given to xpk, for whose clusters accelerators have other names, such as
v6e-8 or h100-80gb-8.
"""

import dataclasses
import math
import re
import shlex
from typing import Annotated, Any

import entry_points
from launching import Job, Name, Plan, Settings, launch, matches, required, to_yaml

from catid2_jax.constraints import NonNegativeInt, PositiveInt
from catid2_jax.errors import InputError

PORT = 8476
DAY = 24 * 3600
GRACE = 60  # seconds between SIGTERM and SIGKILL

Topology = Annotated[str, matches("chips, such as 2x4 or 4x4x4", r"\d+(x\d+){1,2}")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GkeSettings(Settings):
    """A job of a GKE cluster that has JobSet and Kueue.

    Attributes:
        cluster: the cluster.
        location: where it is; empty for the region of `zone`.
        queue: Kueue's LocalQueue; empty for a cluster without Kueue.
        namespace: of the job and the queue.
        service_account: Kubernetes service account that may read and write the bucket.
        accelerator: GKE's name, such as tpu-v6e-slice or nvidia-h100-80gb; empty for CPUs.
        topology: chips of a TPU slice; empty for GPUs.
        per_node: chips or GPUs of a node.
        nodes: nodes of GPUs or CPUs, a process each; of a TPU, what the topology needs.
        spot: whether nodes may be preempted.
        restarts: how often a job that failed is started again.
        cpu: CPUs that each process asks for where there is no accelerator.
        memory: memory that each process asks for.
        xpk: whether xpk is given the job, instead of kubectl a manifest.
    """

    cluster: Name = ""
    location: str = ""
    queue: str = "catid2"
    namespace: Name = "default"
    service_account: str = "default"
    accelerator: str = ""
    topology: Topology = ""
    per_node: PositiveInt = 4
    nodes: PositiveInt = 1
    spot: bool = True
    restarts: NonNegativeInt = 20
    cpu: PositiveInt = 4
    memory: str = "16Gi"
    xpk: bool = False


def plan(settings: GkeSettings, job: Job) -> Plan:
    """A JobSet for kubectl, or the job for xpk."""
    required(settings, "project", "zone", "cluster")
    if settings.xpk:
        return _xpk(settings, job)
    location = settings.location or settings.zone.rpartition("-")[0]
    place = [f"--project={settings.project}", f"--location={location}"]
    credentials = ["gcloud", "container", "clusters", "get-credentials", settings.cluster, *place]
    namespace = f"--namespace={settings.namespace}"
    logs = ["kubectl", "logs", namespace, "--follow", "--max-log-requests=64"]
    logs += [f"--selector=jobset.sigs.k8s.io/jobset-name={job.name}", "--pod-running-timeout=1h"]
    if job.entry_point == "logs":
        return Plan([credentials, logs])
    if job.entry_point == "delete":
        return Plan([credentials, ["kubectl", "delete", namespace, "jobset", job.name]])
    required(settings, "image")
    apply = ["kubectl", "apply", "--filename", "{jobset.yaml}"]
    return Plan([credentials, apply], {"jobset.yaml": to_yaml(jobset(settings, job))})


def jobset(settings: GkeSettings, job: Job) -> dict[str, Any]:
    """The manifest: one pod per node, all started again if one fails."""
    labels = {"kueue.x-k8s.io/queue-name": settings.queue} if settings.queue else {}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": job.name,
            "namespace": settings.namespace,
            **({"labels": labels} if labels else {}),
            # All nodes of one slice.
            **({"annotations": {_EXCLUSIVE: _POOL}} if settings.topology else {}),
        },
        "spec": {
            "ttlSecondsAfterFinished": DAY,
            "failurePolicy": {
                "maxRestarts": settings.restarts,
                "rules": [
                    {
                        "name": "badInput",
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    }
                ],
            },
            "replicatedJobs": [
                {
                    "name": "workers",
                    "replicas": 1,
                    "template": {"spec": job_spec(settings, job)},
                }
            ],
        },
    }


_EXCLUSIVE, _POOL = "alpha.jobset.sigs.k8s.io/exclusive-topology", "cloud.google.com/gke-nodepool"


def job_spec(settings: GkeSettings, job: Job) -> dict[str, Any]:
    """The Job of all pods; bad input, which ends by exit code 2, is not tried again."""
    nodes = _nodes(settings)
    bad_input = {"containerName": "job", "operator": "In", "values": [2]}
    return {
        "parallelism": nodes,
        "completions": nodes,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": bad_input}]},
        "template": _pod(settings, job, nodes),
    }


def _nodes(settings: GkeSettings) -> int:
    if not settings.topology:
        return settings.nodes
    chips = math.prod(map(int, settings.topology.split("x")))
    if chips % settings.per_node:
        raise InputError("--topology", settings.topology, f"chips for nodes of {settings.per_node}")
    return chips // settings.per_node


def _pod(settings: GkeSettings, job: Job, nodes: int) -> dict[str, Any]:
    selector: dict[str, str] = {}
    if settings.topology:
        selector["cloud.google.com/gke-tpu-accelerator"] = settings.accelerator
        selector["cloud.google.com/gke-tpu-topology"] = settings.topology
    elif settings.accelerator:
        selector["cloud.google.com/gke-accelerator"] = settings.accelerator
    if settings.spot:
        selector["cloud.google.com/gke-spot"] = "true"
    keys = ["google.com/tpu"] if settings.topology else []
    keys += ["nvidia.com/gpu"] if settings.accelerator and not settings.topology else []
    tolerations = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]
    if settings.spot:
        spot = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true"}
        tolerations.append({**spot, "effect": "NoSchedule"})
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE,
        "serviceAccountName": settings.service_account,
        **({"nodeSelector": selector} if selector else {}),
        **({"tolerations": tolerations} if tolerations else {}),
        "containers": [_container(settings, job, nodes, keys)],
    }
    if not settings.bucket:
        return {"spec": pod}
    driver = {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": {}}
    driver["volumeAttributes"] = {"bucketName": settings.bucket, "mountOptions": "implicit-dirs"}
    pod["volumes"] = [{"name": "bucket", "csi": driver}]
    return {"metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}}, "spec": pod}


def _container(settings: GkeSettings, job: Job, nodes: int, keys: list[str]) -> dict[str, Any]:
    _, *command = entry_points.command("python", job.entry_point, job.arguments)
    environment: list[dict[str, Any]] = []
    if nodes > 1:
        command += entry_points.distributed(job.entry_point, job.arguments)
    if nodes > 1 and not settings.topology:
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        environment = [
            {
                "name": "JAX_COORDINATOR_ADDRESS",
                "value": f"{job.name}-workers-0-0.{job.name}:{PORT}",
            },
            {"name": "JAX_NUM_PROCESSES", "value": str(nodes)},
            {"name": "JAX_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": index}}},
        ]
    limits: dict[str, Any] = dict.fromkeys(keys, settings.per_node)
    if not keys:
        limits = {"cpu": settings.cpu}
    container: dict[str, Any] = {
        "name": "job",
        "image": settings.image,
        "args": command,
        **({"env": environment} if environment else {}),
        "ports": [{"containerPort": PORT}],
        "resources": {"requests": {"memory": settings.memory, **limits}, "limits": limits},
    }
    if settings.bucket:
        container["volumeMounts"] = [{"name": "bucket", "mountPath": "/bucket"}]
    return container


def _xpk(settings: GkeSettings, job: Job) -> Plan:
    place = [f"--cluster={settings.cluster}", f"--workload={job.name}"]
    place += [f"--project={settings.project}", f"--zone={settings.zone}"]
    if job.entry_point == "delete":
        return Plan([["xpk", "workload", "delete", *place, "--force"]])
    if job.entry_point == "logs":
        selector = f"--selector=jobset.sigs.k8s.io/jobset-name={job.name}"
        return Plan([["kubectl", "logs", "--follow", "--max-log-requests=64", selector]])
    required(settings, "image", "accelerator")
    is_tpu = re.match(r"v\d", settings.accelerator)
    command = entry_points.command("python", job.entry_point, job.arguments)
    if is_tpu:
        command += entry_points.on_tpu(job.entry_point)
    elif settings.nodes > 1:
        command += entry_points.distributed(job.entry_point, job.arguments)
    return Plan(
        [
            [
                *("xpk", "workload", "create", *place),
                f"--{'tpu' if is_tpu else 'device'}-type={settings.accelerator}",
                *([] if is_tpu else [f"--num-nodes={settings.nodes}"]),
                f"--docker-image={settings.image}",
                f"--command={shlex.join(command)}",
                *(["--spot"] if settings.spot else []),
                f"--max-restarts={settings.restarts}",
                f"--ttl-seconds-after-finished={DAY}",
                f"--termination-grace-period-seconds={GRACE}",
            ]
        ]
    )


if __name__ == "__main__":
    launch(__doc__, GkeSettings, plan)
