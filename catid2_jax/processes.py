"""Several processes on one work directory: all run the same steps, the first one writes.

Collective operations need every process at the same point of the program, so all processes run
every step of the chain. Work that reads back the files it has written itself is left to the first
process (`first_alone`).
"""

import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from catid2_jax.errors import InputError
from catid2_jax.rendezvous import meet

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""The first process's host:port, the number of processes, and the index of this one, from 0."""

_LONGEST_STEP = 7 * 24 * 3600  # seconds that the other processes wait for the first one

_barriers = itertools.count()

Made = TypeVar("Made")


def join(facts: Mapping[str, Any] | None = None) -> None:
    """Makes this process one of several; call it before any JAX operation.

    SLURM and Cloud TPU tell JAX which processes take part. Elsewhere the environment variables
    named in `VARIABLES` must, and the processes meet before JAX starts, see `rendezvous.meet`.

    Args:
        facts: what must be the same in all processes, beside their number and JAX's version.

    Raises:
        InputError: there is neither SLURM, nor a Cloud TPU, nor a variable; the variables are
            incomplete or invalid; or the other processes do not come in time, or disagree.
    """
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    try:
        address, count, number = _read(found) if found else (None, None, None)
        if address is not None and count is not None and number is not None:
            same = {VARIABLES[1]: count, "jax": jax.__version__, **(facts or {})}
            meet(address, count, number, same)
        # It would keep SIGTERM for itself; a training asks all processes after every dispatch.
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(address, count, number)
    except InputError:
        raise
    except ValueError as error:
        variables = ", ".join(f"{name}={value}" for name, value in found.items())
        raise InputError(
            "",
            variables or "neither SLURM nor a Cloud TPU",
            f"one of these or {VARIABLES[0]}=host:port, {VARIABLES[1]} and {VARIABLES[2]} below it",
        ) from error


def _read(found: Mapping[str, str]) -> tuple[str, int, int]:
    """Returns the values of `VARIABLES`; raises ValueError if one is missing or invalid."""
    if len(found) < len(VARIABLES):
        raise ValueError
    address, count, number = (found[name] for name in VARIABLES)
    if not re.fullmatch(r".+:\d+", address) or not 0 <= int(number) < int(count):
        raise ValueError
    return address, int(count), int(number)


def is_first() -> bool:
    """Tells whether this process writes files; true if it is the only one."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def refuse_several(what: str, expected: str) -> None:
    """Raises InputError if this is one of several processes.

    Args:
        what: what several cannot do.
        expected: what to do about it.

    Raises:
        InputError: it is the first of several.
        SystemExit: it is another one of several.
    """

    def refuse() -> None:
        raise InputError("", f"several processes for {what}", expected)

    if jax.distributed.is_initialized() and jax.process_count() > 1:
        first_alone(refuse)


def first_alone(work: Callable[[], None]) -> None:
    """Runs `work` in the first process while the others wait.

    Raises:
        InputError: `work` raised it; only the first process does so.
        SystemExit: `work` raised InputError; the other processes exit silently with code 2.
    """
    _together(lambda: work() if is_first() else None)


def divided(work: Callable[[np.ndarray], Sequence[np.ndarray]], count: int) -> Sequence[np.ndarray]:
    """Has each process do its part of some rows; every process gets what all have made.

    Args:
        work: makes arrays [n, ...], of the same types and shapes in every process, for the numbers
            of n consecutive rows. The last row is repeated where the processes do not divide them.
        count: the number of all rows.

    Returns:
        The arrays of all rows, [count, ...].

    Raises:
        InputError: `work` raised it; only the first process to which that happened does so.
        SystemExit: `work` raised InputError in another process; exits silently with code 2.
    """
    if not jax.distributed.is_initialized():
        return work(np.arange(count))
    share = -(-count // jax.process_count())
    rows = np.arange(share) + jax.process_index() * share
    made = _together(lambda: work(np.minimum(rows, count - 1)))

    def gathered(part: np.ndarray) -> np.ndarray:
        # As bytes, since JAX would make numbers of 64 bits smaller.
        parts = multihost_utils.process_allgather(np.ascontiguousarray(part).view(np.uint8))
        return parts.view(part.dtype).reshape(-1, *part.shape[1:])[:count]

    return [gathered(part) for part in made]


def _together(work: Callable[[], Made]) -> Made:
    """Runs `work` in every process; all end where it raises InputError in one, which says so."""
    if not jax.distributed.is_initialized():
        return work()
    error = None
    try:
        made = work()
    except InputError as caught:
        error = caught
    wait_for_all("together")
    failed = multihost_utils.process_allgather(np.array(error is not None))
    if not failed.any():
        return made
    if error and failed.argmax() == jax.process_index():
        raise error
    raise SystemExit(2)


def wait_for_all(where: str) -> None:
    """Blocks until every process has arrived, so that the first one's files are complete.

    Args:
        where: the barrier's name, the same in all processes.
    """
    if not jax.distributed.is_initialized():
        return
    from orbax.checkpoint import multihost  # here because importing it takes a second

    # Not a collective operation: on CPUs those time out after half a minute.
    wait = multihost.get_barrier_sync_fn()
    wait(key=f"{where} {next(_barriers)}", timeout_ms=_LONGEST_STEP * 1000)
