"""One run at a time on a bucket's work directory, of this machine or another."""

import os
import re
import threading
import time

import pytest

from catid2_jax.errors import InputError
from catid2_jax.remote.bucket import Bucket
from catid2_jax.remote.lock import BucketLock
from catid2_jax.remote.mirror import opened
from tests.remote.conftest import contents


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Has what follows run as on another machine."""
    return lambda: monkeypatch.setenv("CATID2_MIRRORS", str(tmp_path / "elsewhere"))


def test_the_run_of_another_machine_is_told_of_the_first(s3, elsewhere):
    with opened(s3, "workdir") as root:
        (root / "a").write_text("1")
        elsewhere()
        with pytest.raises(InputError) as caught, opened(s3, "workdir"):
            pass
        assert contents(s3).keys() == {".lock.1"}
    assert contents(s3).keys() == {"a"}
    assert caught.value.where == s3
    pattern = rf".*process {os.getpid()} on {re.escape(os.uname().nodename)}, since \d{{4}}-.*"
    assert re.fullmatch(pattern, caught.value.found)


def test_a_run_of_this_machine_is_refused_at_once(s3, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waits"))
    with opened(s3, "workdir"), pytest.raises(InputError, match="at work"), opened(s3, "workdir"):
        pass


@pytest.fixture
def dead(s3):
    """The lock of a run that was killed."""
    lock = BucketLock(Bucket(s3), "a mirror").__enter__()
    lock._ended.set()
    return lock


def test_the_lock_of_a_dead_run_is_taken_over(s3, dead, monkeypatch, capsys):
    monkeypatch.setattr("catid2_jax.remote.lock._DEAD", 0.8)
    with opened(s3, "workdir") as root:
        assert contents(s3).keys() == {".lock.2"}
        with pytest.raises(InputError, match="taken over by another, process"):
            dead.check()
        dead.__exit__()
        (root / "a").write_text("1")
    assert contents(s3).keys() == {"a"}
    assert "taken over from a run that was killed: process" in capsys.readouterr().out


def test_the_lock_of_a_dead_run_of_this_mirror_is_taken_over_at_once(s3, dead, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waits"))
    with BucketLock(Bucket(s3), "a mirror") as lock:
        lock.check()
    assert not contents(s3)


def test_a_run_that_was_taken_for_dead_writes_no_more(s3, elsewhere, monkeypatch):
    monkeypatch.setattr("catid2_jax.remote.lock._DEAD", 0.8)
    monkeypatch.setattr("catid2_jax.remote.lock._RENEWED", 60.0)
    first = opened(s3, "workdir")
    root = first.__enter__()
    elsewhere()
    monkeypatch.setattr("catid2_jax.remote.lock._RENEWED", 0.3)
    with opened(s3, "workdir") as other:
        (other / "a").write_text("other")
    (root / "a").write_text("first")
    with pytest.raises(InputError, match="taken over by another"):
        first.__exit__(None, None, None)
    assert contents(s3) == {"a": b"other"}


def test_a_renewal_that_is_under_way_leaves_no_lock_behind(s3, monkeypatch):
    monkeypatch.setattr("catid2_jax.remote.lock._RENEWED", 0.01)
    begun, written = threading.Event(), threading.Event()

    def write(self, *arguments, real=Bucket.write, **options):
        if not options:  # a renewal
            begun.set()
            time.sleep(0.3)
        real(self, *arguments, **options)
        if not options:
            written.set()

    monkeypatch.setattr(Bucket, "write", write)
    with BucketLock(Bucket(s3), "a mirror"):
        assert begun.wait(10)
    assert written.wait(10)
    assert not contents(s3)


def test_of_two_that_come_at_once_one_gets_it(s3, monkeypatch):
    """Both have seen no lock; an object is made only if there is none."""
    first, second = (BucketLock(Bucket(s3), name) for name in "ab")
    real, calls = second._all, []

    def all_numbers():
        calls.append(1)
        return [] if len(calls) == 1 else real()

    monkeypatch.setattr(second, "_all", all_numbers)
    with first, pytest.raises(InputError, match="at work"), second:
        pass


def test_google_is_asked_for_an_object_only_if_there_is_none(gs, monkeypatch):
    """The emulator gives it anyway."""
    from gcsfs.core import GCSFileSystem

    conditions = []

    async def call(self, *arguments, real=GCSFileSystem._call, **options):
        if arguments[0] == "POST":
            conditions.append(options.get("ifGenerationMatch"))
        return await real(self, *arguments, **options)

    monkeypatch.setattr(GCSFileSystem, "_call", call)
    bucket = Bucket(f"{gs}/x")
    bucket.write("new", {}, new=True)
    bucket.write("new", {})
    assert conditions == ["0", None]
