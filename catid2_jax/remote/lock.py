"""A lock on a bucket's work directory: one run at a time writes into it."""

import contextlib
import datetime
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any, Self

from catid2_jax.errors import InputError
from catid2_jax.progress import console
from catid2_jax.remote.bucket import Bucket

_RENEWED = 30.0  # seconds between two renewals of a lock
_DEAD = 300.0  # seconds without one after which its run is dead
_NAME = ".lock."


class BucketLock:
    """Context manager that keeps other runs from a bucket's work directory until its block ends.

    The highest of the objects `.lock.1`, `.lock.2`, ... is the lock. Each is made only if there is
    none of its number, so that one of several runs gets it. Its run renews it every 30 seconds;
    another run watches for that, so that no clocks need agree, and takes over where there is no
    renewal for 5 minutes.
    """

    def __init__(self, bucket: Bucket, mirror: str) -> None:
        """Names the run.

        Args:
            bucket: the work directory.
            mirror: the name of its mirror on this machine, which no other run is at work in: the
                run of a lock with the same name is dead.
        """
        since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        who = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
        self._text = {**who, "mirror": mirror, "run": str(uuid.uuid4())}
        self._bucket, self._number, self._ended = bucket, 0, threading.Event()
        self._renewals = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        """Takes the lock.

        Raises:
            InputError: another run has it, or the bucket cannot be written.
        """
        while not self._number:
            last = self._last()
            if last:
                self._wait_until_dead(last)
            try:
                self._bucket.write(f"{_NAME}{last + 1}", self._text, new=True)
                self._number = last + 1
            except InputError:
                if self._last() == last:  # it is not that another run was quicker
                    raise
        self._bucket.remove(f"{_NAME}{number}" for number in self._all() if number < self._number)
        self._renewals.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._renewals.join()  # one that is under way would make the lock anew
        with contextlib.suppress(InputError):
            self._bucket.remove([f"{_NAME}{self._number}"])

    def check(self) -> None:
        """Checks that no other run has taken the lock over.

        Raises:
            InputError: one has.
        """
        last = self._last()
        held = self._bucket.read(f"{_NAME}{last}") if last else {}
        if held.get("run") != self._text["run"]:
            found = f"the lock of this run taken over by another, {_words(held)}"
            raise InputError(self._bucket.url, found, "one run at a time")

    def _all(self) -> list[int]:
        names = (path.removeprefix(_NAME) for path in self._bucket.versions(_NAME))
        return [int(name) for name in names if name.isdecimal()]

    def _last(self) -> int:
        return max(self._all(), default=0)

    def _wait_until_dead(self, number: int) -> None:
        """Returns once a run has ended or is dead; raises InputError if it renews its lock."""
        path, url = f"{_NAME}{number}", self._bucket.url
        held = self._bucket.read(path)
        if held["mirror"] != self._text["mirror"]:
            found = f"a run that is at work there: {_words(held)}"
            console.print(f"{url}: found {found}; watching whether it is alive", markup=False)
            first, end = self._bucket.versions(path).get(path), time.monotonic() + _DEAD
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(_RENEWED / 6, left))
                version = self._bucket.versions(path).get(path)
                if version is None:
                    return
                if version != first:
                    raise InputError(url, found, "that it ends first")
        words = f"taken over from a run that was killed: {_words(held)}"
        console.print(f"{url}: {words}", markup=False)

    def _renew(self) -> None:
        while not self._ended.wait(_RENEWED):
            with contextlib.suppress(InputError):  # which the next `check` says
                self.check()
                self._bucket.write(f"{_NAME}{self._number}", {**self._text, "at": time.time()})


def _words(held: Mapping[str, Any]) -> str:
    """Who has, or had, a lock."""
    if not held:
        return "which has ended"
    return f"process {held['process']} on {held['host']}, since {held['since']}"
