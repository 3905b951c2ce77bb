"""Submits an entry point to SLURM, one process per GPU.

    python launch/slurm.py --nodes=4 --gpus_per_node=8 --sbatch=--time=8:00:00 \
        train --config=configs/seq2seq.py --workdir=DIR

DIR, this folder and the Python environment must lie on a file system that all nodes share. A job
that is put back into the queue goes on from its last checkpoint.
"""

import shlex
import subprocess
import sys

import entry_points


def main() -> None:
    """Parses, and submits or prints."""
    parser = entry_points.parser(__doc__)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--gpus_per_node", type=int, default=1, help="0 for a process without GPU")
    parser.add_argument("--python", default=sys.executable, help="the environment's interpreter")
    parser.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION", help="one more, for sbatch"
    )
    options = parser.parse_args()
    if options.nodes < 1 or options.gpus_per_node < 0:
        entry_points.fail(
            f"found {options.nodes} nodes of {options.gpus_per_node} GPUs, expected 1 and 0 or more"
        )
    text = script(
        entry_points.command(options.python, options.entry_point, options.arguments),
        options.entry_point,
        options.nodes,
        options.gpus_per_node,
        options.sbatch,
    )
    if options.dry_run:
        print(text, end="")
        return
    try:
        sys.exit(subprocess.run(["sbatch"], input=text, text=True, check=False).returncode)
    except FileNotFoundError:
        entry_points.fail("found no sbatch, expected to be on a machine of a SLURM cluster")


def script(
    command: list[str], entry_point: str, nodes: int, gpus_per_node: int, more: list[str]
) -> str:
    """The batch script. JAX learns from SLURM who takes part, and gives process n GPU n."""
    tasks = max(gpus_per_node, 1)
    if nodes * tasks > 1:
        command = [*command, *entry_points.distributed(entry_point)]
    options = [
        f"--job-name={entry_point}",
        f"--nodes={nodes}",
        f"--ntasks-per-node={tasks}",
        *([f"--gpus-per-node={gpus_per_node}"] if gpus_per_node else []),
        "--requeue",
        "--open-mode=append",
        *more,
    ]
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in options), ""]
    return "\n".join([*lines, f"exec srun --kill-on-bad-exit=1 {shlex.join(command)}", ""])


if __name__ == "__main__":
    main()
