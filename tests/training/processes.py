"""Scripts run in processes of their own, with as many CPU devices as a test asks for."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent


def start(script, output, devices, *arguments):
    """Starts `script output *arguments`; what it prints goes to `output` with suffix .log."""
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, script, output, *map(str, arguments)]
    output.parent.mkdir(exist_ok=True)
    with open(output.with_suffix(".log"), "a") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def wait_for(processes, outputs):
    """Waits for the processes; fails with the log of what left no output."""
    for process in processes:
        process.wait(timeout=600)
    for path in outputs:
        assert path.exists(), path.with_suffix(".log").read_text()[-2000:]


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]
