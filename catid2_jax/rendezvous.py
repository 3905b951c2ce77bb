"""Processes that are to be one run meet before JAX starts, and see that they agree.

JAX ends a process by SIGABRT where the others do not come or say something else; here that is an
error of one line, within a stated time.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from catid2_jax.errors import InputError

TIMEOUT = 300.0
"""Seconds that a process waits for the others."""

_LONGEST = 65536  # bytes of a message
_PAUSE = 0.2  # seconds between two attempts to reach the first process


def meet(
    address: str, count: int, number: int, facts: Mapping[str, Any], timeout: float | None = None
) -> None:
    """Returns once all processes are there, and have the same facts as the first one.

    Args:
        address: host:port of the first process; the port is free again afterwards.
        count: number of processes.
        number: the index of this one, from 0.
        facts: what must be the same in all: name -> JSON value.
        timeout: seconds until it is given up; `TIMEOUT` if None.

    Raises:
        InputError: a process does not come in time, has other facts, or has another's number.
    """
    deadline = time.monotonic() + (TIMEOUT if timeout is None else timeout)
    host, _, port = address.rpartition(":")
    if number:
        _visit((host, int(port)), number, facts, deadline)
    elif count > 1:
        _receive(int(port), count, facts, deadline)


def _receive(port: int, count: int, facts: Mapping[str, Any], deadline: float) -> None:
    """What the first process does: it hears all others, then answers all."""
    seconds = round(deadline - time.monotonic())
    with contextlib.ExitStack() as stack:
        try:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            server = stack.enter_context(
                socket.create_server(("", port), family=family, dualstack_ipv6=both)
            )
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise InputError("", f"port {port}: {reason}", "a free port") from error
        guests: dict[int, socket.socket] = {}
        problem = None
        while len(guests) < count - 1 and problem is None:
            server.settimeout(max(deadline - time.monotonic(), 1e-3))
            try:
                guest = stack.enter_context(server.accept()[0])
            except TimeoutError:
                problem = (f"{len(guests) + 1} of {count} processes in {seconds} s", "all of them")
                break
            told = _hear(guest, deadline)
            if told is None:  # somebody else's
                continue
            problem = _difference(told["number"], told["facts"], facts, count, guests)
            guests[len(guests) + 1 if problem else told["number"]] = guest
        for guest in guests.values():
            with contextlib.suppress(OSError):
                guest.sendall(json.dumps({"problem": problem}).encode() + b"\n")
        for guest in guests.values():  # who closes first keeps the port for a while
            with contextlib.suppress(OSError):
                guest.settimeout(1.0)
                guest.recv(1)
    if problem:
        found, expected = problem
        raise InputError("", found, expected)


def _difference(
    number: int,
    found: Mapping[str, Any],
    facts: Mapping[str, Any],
    count: int,
    guests: Mapping[int, Any],
) -> tuple[str, str] | None:
    """What is wrong with a process, as found and expected."""
    for name, value in facts.items():
        if found.get(name) != value:
            return f"{name} {found.get(name)} in process {number}", f"{value}, as in process 0"
    if not 0 < number < count or number in guests:
        return f"two processes {number}" if number in guests else f"process {number}", (
            f"each of 0 to {count - 1} once"
        )
    return None


def _visit(
    address: tuple[str, int], number: int, facts: Mapping[str, Any], deadline: float
) -> None:
    """What the other processes do: they tell the first one who they are, and wait for the rest."""
    seconds = round(deadline - time.monotonic())
    message = json.dumps({"number": number, "facts": dict(facts)}).encode() + b"\n"
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(OSError), socket.create_connection(address, left) as server:
            server.sendall(message)
            answer = _hear(server, deadline + 2 * _PAUSE)  # the first one waits as long as we do
            if answer is not None:
                if answer["problem"]:
                    found, expected = answer["problem"]
                    raise InputError("", found, expected)
                return
        time.sleep(_PAUSE)
    where = ":".join(map(str, address))
    raise InputError("", f"no answer of process 0 at {where} in {seconds} s", "that it runs there")


def _hear(connection: socket.socket, deadline: float) -> dict[str, Any] | None:
    """A message; None for anything else, or if the other end is gone."""
    text = b""
    with contextlib.suppress(OSError, ValueError):
        while not text.endswith(b"\n") and len(text) < _LONGEST:
            connection.settimeout(max(deadline - time.monotonic(), 1e-3))
            part = connection.recv(_LONGEST)
            if not part:
                return None
            text += part
        told = json.loads(text)
        return told if isinstance(told, dict) and told.keys() & {"number", "problem"} else None
    return None
