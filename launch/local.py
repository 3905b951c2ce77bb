"""Runs an entry point as several processes on the CPUs of this machine, as a pod would run it.

    python launch/local.py --processes=2 --devices=2 train --config=configs/rqvae.py --workdir=DIR

Each process sees `--devices` devices. The first that fails ends the others, and its exit code is
the launcher's. Ctrl-C and SIGTERM go to all, which then save what they have done and end.
"""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time

import entry_points

_GRACE = 30.0  # seconds between a signal and SIGKILL, as SLURM's
_GRACE_OF_FAILURE = 10.0  # the same where another process has failed: then nothing can be saved


def main() -> None:
    """Parses, and runs or prints."""
    parser = entry_points.parser(__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", type=int, default=1, help="of each process")
    parser.add_argument(
        "--port", type=int, default=0, help="of the first process; 0 for a free one"
    )
    options = parser.parse_args()
    if options.processes < 1 or options.devices < 1:
        entry_points.fail(
            f"found {options.processes} processes of {options.devices} devices, expected at least 1"
        )
    if not 0 <= options.port < 65536:
        entry_points.fail(f"found --port={options.port}, expected 0 to 65535")
    coordinator = f"localhost:{options.port or _free_port()}"
    command = entry_points.command(sys.executable, options.entry_point, options.arguments)
    if options.processes > 1:
        command += entry_points.distributed(options.entry_point)
    devices = f"--xla_force_host_platform_device_count={options.devices}"
    plans = []
    for process in range(options.processes):
        environment = {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {devices}".strip(),
            "JAX_COORDINATOR_ADDRESS": coordinator,
            "JAX_NUM_PROCESSES": str(options.processes),
            "JAX_PROCESS_ID": str(process),
        }
        of_t5x = [
            f"--coordinator_address={coordinator}",
            f"--process_count={options.processes}",
            f"--process_index={process}",
        ]
        shares = "--multiprocess_gpu" in command
        plans.append((environment, command + of_t5x if shares else command))
    if options.dry_run:
        for environment, line in plans:
            print(shlex.join(["env", *(f"{k}={v}" for k, v in environment.items()), *line]))
        return
    sys.exit(run(plans))


def run(plans: list[tuple[dict[str, str], list[str]]]) -> int:
    """Starts (environment, command) of every process.

    Returns:
        The exit code of the first that fails, or 128 + n after signal n.
    """
    processes = [
        # Sessions of their own, so that Ctrl-C reaches them once: from here.
        subprocess.Popen(command, env=os.environ | environment, start_new_session=True)
        for environment, command in plans
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


def _end(processes: list[subprocess.Popen], first: int, grace: float) -> None:
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
    main()
