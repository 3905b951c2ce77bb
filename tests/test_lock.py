"""One run at a time on a work directory, whatever becomes of it."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys

import pytest

from catid2_jax.errors import InputError
from catid2_jax.lock import LOCK, locked

HOLD = """
import pathlib, sys, time
from catid2_jax.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process, which has the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_run_is_told_of_the_first(tmp_path, holder):
    with pytest.raises(InputError) as caught, locked(tmp_path):
        pass
    assert caught.value.where == str(tmp_path)
    host = re.escape(os.uname().nodename)
    pattern = rf".*process {holder.pid} on {host}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d.*"
    assert re.fullmatch(pattern, caught.value.found)
    assert (tmp_path / LOCK).exists()  # it is not the second one's to take away


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert f'"process": {os.getpid()}' in (tmp_path / LOCK).read_text()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_run_gives_its_lock_back(tmp_path, error):
    with pytest.raises(error), locked(tmp_path / "new"):
        raise error
    with locked(tmp_path / "new"):
        pass


def _count(root, failures, inside):
    """Takes the lock many times; notes whenever another is inside."""
    for _ in range(200):
        try:
            with locked(root):
                inside.value += 1
                failures.value += inside.value != 1
                inside.value -= 1
        except InputError:
            pass


def test_two_are_never_inside(tmp_path):
    """Although each removes the file that the other may just have opened."""
    context = multiprocessing.get_context("spawn")
    failures, inside = context.Value("i", 0), context.Value("i", 0)
    workers = [context.Process(target=_count, args=(tmp_path, failures, inside)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert failures.value == 0
