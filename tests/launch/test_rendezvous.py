"""Processes that are to be one run: who comes too late, or says something else, ends all."""

import contextlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from catid2_jax.errors import InputError
from catid2_jax.rendezvous import meet


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def run(address, *processes, timeout=5.0):
    """What each process (count, number, facts) says: None, or its error."""
    said = [None] * len(processes)

    def one(index, count, number, facts):
        try:
            meet(address, count, number, facts, timeout)
        except InputError as error:
            said[index] = str(error)

    threads = [
        threading.Thread(target=one, args=(index, *process))
        for index, process in enumerate(processes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return said


def test_all_are_there_and_the_port_is_free_again(address):
    for _ in range(2):
        assert run(address, *((3, number, {"jax": "1"}) for number in range(3))) == [None] * 3
    port = int(address.rpartition(":")[2])
    socket.create_server(("", port)).close()


def test_one_process_waits_for_nobody(address):
    assert run(address, (1, 0, {})) == [None]


def test_other_facts_end_all(address):
    said = run(address, (2, 0, {"count": 2, "jax": "1"}), (3, 1, {"count": 3, "jax": "1"}))
    assert said == ["found count 3 in process 1, expected 2, as in process 0"] * 2


def test_a_number_twice(address):
    facts = {"count": 3}
    said = run(address, (3, 0, facts), (3, 1, facts), (3, 1, facts))
    assert said == ["found two processes 1, expected each of 0 to 2 once"] * 3


def test_a_number_that_there_is_not(address):
    said = run(address, (2, 0, {}), (2, 2, {}))
    assert said == ["found process 2, expected each of 0 to 1 once"] * 2


def test_who_does_not_come(address):
    begun = time.monotonic()
    said = run(address, (3, 0, {}), (3, 1, {}), timeout=1.0)
    assert said[0] == "found 2 of 3 processes in 1 s, expected all of them"
    assert said[1] == said[0] or said[1].startswith("found no answer of process 0")
    assert time.monotonic() - begun < 8


@pytest.mark.parametrize("host", ["localhost", "no-such-host.invalid"])
def test_a_first_process_that_never_answers(address, host):
    begun = time.monotonic()
    where = f"{host}:{address.rpartition(':')[2]}"
    said = run(where, (2, 1, {}), timeout=0.5)
    expected = f"found no answer of process 0 at {where} in 0 s, expected that it runs there"
    assert said == [expected]
    assert time.monotonic() - begun < 8


def test_a_port_in_use(address):
    with socket.create_server(("", int(address.rpartition(":")[2]))):
        (said,) = run(address, (2, 0, {}))
    assert said.endswith("Address already in use, expected a free port")


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"", b"\xff\n"])
def test_strangers_at_the_port_are_let_go(address, sent):
    def stranger():
        for _ in range(20):
            with contextlib.suppress(OSError):
                with socket.create_connection(
                    ("localhost", int(address.rpartition(":")[2]))
                ) as guest:
                    guest.sendall(sent)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=stranger)
    waiting = threading.Timer(0.3, lambda: said.extend(run(address, (2, 1, {}))))
    said = []
    thread.start()
    waiting.start()
    assert run(address, (2, 0, {})) == [None]
    waiting.join(10)
    thread.join(10)
    assert said == [None]


@pytest.mark.slow
def test_a_command_whose_first_process_never_answers(address, monkeypatch):
    code = (
        "import catid2_jax.rendezvous as r; r.TIMEOUT = 1.0\n"
        "from catid2_jax import prepare; prepare.main()"
    )
    environment = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = subprocess.run(
        [sys.executable, "-c", code, "--config=quickstart", "--distributed"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 2
    expected = f"found no answer of process 0 at {address} in 1 s, expected that it runs there"
    assert result.stderr == f"error: --distributed: {expected}\n"
