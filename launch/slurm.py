"""Submits an entry point to SLURM, one process per GPU.

    python launch/slurm.py --nodes=4 --gpus_per_node=8 --sbatch=--time=8:00:00 \
        train --config=configs/seq2seq.py --workdir=DIR

DIR, this folder and the Python environment must lie on a file system that all nodes share. A job
that is preempted, whose node fails or whose time is over is put back into the queue and goes on
from its last checkpoint. `logs` follows what it writes, `delete` ends it.
"""

import dataclasses
import shlex
import sys

import entry_points
from launching import Job, Plan, Settings, launch

from catid2_jax.constraints import NonNegativeInt, PositiveInt

SCRIPT = """\
#!/bin/bash
{options}

# Before its time is over, the job saves what it has done and goes back into the queue.
# shellcheck disable=SC2329
again() {{
  kill -TERM "$step"
  wait "$step"
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}}
trap again USR1
trap 'kill -TERM "$step"' TERM INT

srun --kill-on-bad-exit=1 {command} &
step=$!
wait "$step"
code=$?
while kill -0 "$step" 2>/dev/null; do  # a signal has ended the wait, and not the step
  wait "$step"
  code=$?
done
exit "$code"
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmSettings(Settings):
    """A job of a SLURM cluster.

    Attributes:
        nodes: how many.
        gpus_per_node: GPUs, and so processes, of each; 0 for a process without GPU.
        python: the environment's interpreter.
        grace: seconds before the end of its time at which a job saves and goes back into the queue.
        sbatch: one more option for sbatch, such as --partition=a.
    """

    nodes: PositiveInt = 1
    gpus_per_node: NonNegativeInt = 1
    python: str = sys.executable
    grace: PositiveInt = 120
    sbatch: tuple[str, ...] = ()


def plan(settings: SlurmSettings, job: Job) -> Plan:
    """The batch script. JAX learns from SLURM who takes part, and gives process n GPU n."""
    if job.entry_point == "logs":
        return Plan([["tail", "-n", "+1", "-F", f"slurm-{job.name}.log"]])
    if job.entry_point == "delete":
        return Plan([["scancel", f"--name={job.name}", "--me"]])
    tasks = max(settings.gpus_per_node, 1)
    command = entry_points.command(settings.python, job.entry_point, job.arguments)
    if settings.nodes * tasks > 1:
        command += entry_points.distributed(job.entry_point, job.arguments)
    options = [
        f"--job-name={job.name}",
        f"--output=slurm-{job.name}.log",
        f"--nodes={settings.nodes}",
        f"--ntasks-per-node={tasks}",
        *([f"--gpus-per-node={settings.gpus_per_node}"] if settings.gpus_per_node else []),
        "--requeue",
        "--open-mode=append",
        f"--signal=B:USR1@{settings.grace}",
        *settings.sbatch,
    ]
    script = SCRIPT.format(
        options="\n".join(f"#SBATCH {option}" for option in options), command=shlex.join(command)
    )
    return Plan([["sbatch", "{job.sh}"]], {"job.sh": script})


if __name__ == "__main__":
    launch(__doc__, SlurmSettings, plan)
