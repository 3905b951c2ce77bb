"""Several processes with one work directory: all do the same work, the first one writes.

Collectives need every process at the same place, so a step of the chain is run by all; what a
process reads back from files that it wrote itself is for the first one alone.
"""

import itertools
import os
import re
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from catid2_jax.errors import InputError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""host:port of the first process, how many there are, and which of them this is, from 0 on."""

_LONGEST_STEP = 7 * 24 * 3600  # seconds for which the others wait for the first

_barriers = itertools.count()


def join() -> None:
    """Makes this process one of several; to be called before any of JAX's operations.

    SLURM and Cloud TPU say who takes part; elsewhere `VARIABLES` of the environment must.

    Raises:
        InputError: none of them says it, or only some of the variables are set, or to what makes
            no sense.
    """
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    try:
        address, count, number = _read(found) if found else (None, None, None)
        jax.distributed.initialize(address, count, number)
    except ValueError as error:
        variables = ", ".join(f"{name}={value}" for name, value in found.items())
        raise InputError(
            f"--distributed: found {variables or 'neither SLURM nor a Cloud TPU'}, expected one of "
            f"these or {VARIABLES[0]}=host:port, {VARIABLES[1]} and {VARIABLES[2]} below it"
        ) from error


def _read(found: Mapping[str, str]) -> tuple[str, int, int]:
    """The values of `VARIABLES`; ValueError if one is missing or makes no sense."""
    if len(found) < len(VARIABLES):
        raise ValueError
    address, count, number = (found[name] for name in VARIABLES)
    if not re.fullmatch(r".+:\d+", address) or not 0 <= int(number) < int(count):
        raise ValueError
    return address, int(count), int(number)


def is_first() -> bool:
    """Whether this process writes; true where it is the only one."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def first_alone(work: Callable[[], None]) -> None:
    """Runs `work` in the first process while the others wait.

    Raises:
        InputError: what `work` raised, in the first process; the others exit with 2, in silence.
    """
    if not jax.distributed.is_initialized():
        work()
        return
    error = None
    if is_first():
        try:
            work()
        except InputError as caught:
            error = caught
    wait_for_all("alone")
    failed = multihost_utils.broadcast_one_to_all(np.array(error is not None))
    if error:
        raise error
    if failed:
        raise SystemExit(2)


def wait_for_all(where: str) -> None:
    """Returns once every process has come here, so that the files of the first one are there."""
    if not jax.distributed.is_initialized():
        return
    from orbax.checkpoint import multihost  # here, since importing it takes a second

    # No collective: on CPUs those give up after half a minute.
    wait = multihost.get_barrier_sync_fn()
    wait(key=f"{where} {next(_barriers)}", timeout_ms=_LONGEST_STEP * 1000)
