"""Runs an entry point as several processes on the CPUs of this machine, as a pod would run it.

    python launch/local.py --processes=2 --devices=2 train --config=configs/rqvae.py --workdir=DIR

Each process sees `--devices` devices. The first that fails ends the others, and its exit code is
the launcher's. Ctrl-C and SIGTERM go to all, which then save what they have done and end.
"""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import entry_points
from launching import Job, Plan, Settings, launch

from catid2_jax.constraints import PositiveInt, at_least, at_most

_GRACE = 30.0  # seconds between a signal and SIGKILL, as SLURM's
_GRACE_OF_FAILURE = 10.0  # the same where another process has failed: then nothing can be saved


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalSettings(Settings):
    """Processes of this machine.

    Attributes:
        processes: how many; one for an entry point that is one.
        devices: devices of each process.
        port: port of the first process; 0 for a free one.
    """

    processes: PositiveInt = 2
    devices: PositiveInt = 1
    port: Annotated[int, at_least(0), at_most(65535)] = 0


def plan(settings: LocalSettings, job: Job) -> Plan:
    """One command per process, all of them at once."""
    coordinator = f"localhost:{settings.port or _free_port()}"
    command = entry_points.command(sys.executable, job.entry_point, job.arguments)
    devices = f"--xla_force_host_platform_device_count={settings.devices}"
    lines = []
    for process in range(settings.processes):
        together = {
            "JAX_COORDINATOR_ADDRESS": coordinator,
            "JAX_NUM_PROCESSES": str(settings.processes),
            "JAX_PROCESS_ID": str(process),
        }
        environment = {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {devices}".strip(),
        }
        line = command
        if settings.processes > 1:
            environment |= together
            line = command + entry_points.distributed(job.entry_point, job.arguments)
        lines.append(["env", *(f"{name}={value}" for name, value in environment.items()), *line])
    return Plan(lines)


def run(plan: Plan) -> int:
    """Starts all processes.

    Returns:
        The exit code of the first that fails, or 128 + n after signal n.
    """
    processes = [
        # Sessions of their own, so that Ctrl-C reaches them once: from here.
        subprocess.Popen(line, start_new_session=True)
        for line in plan.commands
    ]

    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: received.append(number))
    while True:
        codes = [process.poll() for process in processes]
        failed = [code for code in codes if code]
        if received or failed or None not in codes:
            break
        time.sleep(0.1)
    if received:
        _end(processes, received[0], _GRACE)
    else:
        _end(processes, signal.SIGTERM, _GRACE_OF_FAILURE)
    code = -received[0] if received else failed[0] if failed else 0
    return code if code >= 0 else 128 - code  # by signal n: 128 + n, as a shell says it


def _end(processes: Sequence[subprocess.Popen], first: int, grace: float) -> None:
    """Ends what still runs by a signal, and by SIGKILL what does not heed it."""
    for number, seconds in ((first, grace), (signal.SIGKILL, None)):
        for process in processes:
            process.send_signal(number)  # nothing to those that have ended
        deadline = time.monotonic() + (seconds or 0)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(None if seconds is None else max(0, deadline - time.monotonic()))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    launch(__doc__, LocalSettings, plan, run, also=())
