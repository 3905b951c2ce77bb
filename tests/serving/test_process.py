"""The server as a process: it drains on SIGTERM, and survives kill -9 with the same answers."""

import concurrent.futures
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from catid2_jax.serving.client import Client
from tests.serving.running import BEAMS

ROOT = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def process(workdir, *flags):
    """(process, client) of a server that answers; it is killed at the end."""
    command = [sys.executable, "-m", "catid2_jax.serve", f"--workdir={workdir}", f"--beams={BEAMS}"]
    environment = {**os.environ, "CATID2_ADMIN_KEY": "admin", "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [*command, f"--beam_rows={4 * BEAMS}", "--timeout=60", *flags],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        for line in server.stdout:
            found = re.search(r"on (http://\S+)/", line)
            if found:
                break
        url = found[1]
        limit = time.monotonic() + 60
        while True:
            try:
                Client(url).call("GET", "/ready")
                break
            except OSError:
                assert time.monotonic() < limit
                time.sleep(0.05)
        yield server, Client(url)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def load(client, stop, failures, answers):
    """Asks until it is stopped, for something new each time."""
    number = 0
    while not stop.is_set():
        number += 1
        try:
            answers.append(client.retrieve([f"tea {number} {threading.get_ident()}"], k=3))
        except Exception as error:
            failures.append(error)
            return


def test_sigterm_answers_what_was_taken(tiny_workdir):
    """Not ready from then on, but answering until the port closes."""
    with process(tiny_workdir, "--port=0", "--drain=2") as (server, client):
        stop, failures, answers = threading.Event(), [], []
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            for _ in range(4):
                threads.submit(load, client, stop, failures, answers)
            while len(answers) < 8:
                assert not failures
                time.sleep(0.01)
            server.send_signal(signal.SIGTERM)
            before, limit = len(answers), time.monotonic() + 1.5
            status = None
            while status != 503 and time.monotonic() < limit:
                try:
                    client.call("GET", "/ready")
                except Exception as error:
                    status = getattr(error, "status", None)
            assert status == 503
            while len(answers) < before + 4 and time.monotonic() < limit:
                time.sleep(0.01)
            assert len(answers) > before
            assert failures == []
            stop.set()
        assert server.wait(60) == 0
        assert "every request that was taken is answered" in server.stdout.read()


@pytest.mark.slow
def test_kill_9_under_load_and_restart(tiny_workdir, tmp_path):
    """The same version with the same changes gives the same answers, on the same port."""
    state = f"--state={tmp_path / 'state.json'}"
    with process(tiny_workdir, "--port=0", state) as (server, client):
        (found,) = client.retrieve(["tea"], k=12)
        body = {"out_of_stock": [found.hits[0].id]}
        admin = Client(client._url, "admin")
        version = admin.call("PUT", "/v1/admin/stock", body)["version"]
        expected = client.retrieve(["tea", "sofa"], k=5)
        assert expected[0].version == version
        stop, failures, answers = threading.Event(), [], []
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            for _ in range(4):
                threads.submit(load, client, stop, failures, answers)
            while len(answers) < 8:
                time.sleep(0.01)
            server.kill()
            server.wait()
        assert len(failures) == 4
    port = client._url.rpartition(":")[2]
    with process(tiny_workdir, f"--port={port}", state) as (_, client):
        assert client.retrieve(["tea", "sofa"], k=5) == expected


def memory(pid):
    """Resident bytes of a process."""
    pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


@pytest.mark.slow
def test_memory_is_flat(tiny_workdir):
    """Over 100,000 requests, most of them new, some filtered."""
    with process(tiny_workdir, "--port=0", "--cache=1000") as (server, client):
        products = client.retrieve(["tea"], k=BEAMS)[0].hits

        def ask(number):
            given = {"deny_ids": [products[number % BEAMS].id]} if number % 4 == 0 else None
            client.retrieve([f"tea {number}"], k=3, filter=given)

        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            list(threads.map(ask, range(20_000)))
            before = memory(server.pid)
            list(threads.map(ask, range(20_000, 120_000)))
        assert memory(server.pid) < before + 32 * 2**20
        assert client.call("GET", "/ready")["compilations"] == 0
