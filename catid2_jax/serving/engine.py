"""Continuous micro-batching: a thread searches for whatever waits, within a budget of rows."""

import asyncio
import contextlib
import dataclasses
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from catid2_jax.serving.search import CompiledSearch, Found, Mask

_SMOOTHING = 0.8  # weight of what was known of the time per query


class QueueFull(Exception):  # noqa: N818
    """More queries wait than the queue has room for.

    Attributes:
        retry_after: seconds after which there should be room, at least 1.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__("the queue is full")
        self.retry_after = retry_after


@dataclasses.dataclass(eq=False)
class Job:
    """A query that waits for its result.

    Attributes:
        search: the search of the version that it is answered by.
        source: the query as the network reads it.
        mask: what it may find.
        beams: one of the search's widths.
        future: gets a `Found`, in its own event loop.
    """

    search: CompiledSearch
    source: np.ndarray
    mask: Mask
    beams: int
    future: "asyncio.Future[Found]"


class Engine:
    """A bounded queue of jobs and the thread that works on it.

    No time is spent on waiting for a batch to fill: during one search the next batch gathers. The
    oldest job is always in the next batch, so that none waits for ever.
    """

    def __init__(self, queue: int, observe: Callable[[int, int], None] = lambda *_: None) -> None:
        """Starts the thread.

        Args:
            queue: most jobs that wait.
            observe: is told the queries and the beam rows of each batch.
        """
        self._most, self._observe = queue, observe
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._seconds_per_query = 0.0
        self._thread = threading.Thread(target=self._run, name="search", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._jobs)

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queues jobs, all or none.

        Raises:
            QueueFull: there is no room for all of them.
        """
        with self._changed:
            if len(self._jobs) + len(jobs) > self._most:
                wait = math.ceil(len(self._jobs) * self._seconds_per_query)
                raise QueueFull(max(1, wait))
            self._jobs.extend(jobs)
            self._changed.notify()

    def close(self) -> None:
        """Lets the thread end once nothing waits."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            start = time.monotonic()
            self._search(batch)
            seconds = (time.monotonic() - start) / len(batch)
            old = self._seconds_per_query or seconds
            self._seconds_per_query = _SMOOTHING * old + (1 - _SMOOTHING) * seconds

    def _take(self) -> list[Job]:
        """The next batch: jobs of one search and one number of beams; empty at the end."""
        with self._changed:
            while True:
                self._jobs = deque(job for job in self._jobs if not job.future.cancelled())
                if self._jobs:
                    break
                if self._closing:
                    return []
                self._changed.wait()
            first = self._jobs[0]
            like = [j for j in self._jobs if (j.search, j.beams) == (first.search, first.beams)]
            batch = like[: first.search.queries_at_once(len(like), first.beams)]
            taken = set(batch)
            self._jobs = deque(job for job in self._jobs if job not in taken)
            return batch

    def _search(self, batch: Sequence[Job]) -> None:
        first = batch[0]
        self._observe(len(batch), len(batch) * first.beams)
        try:
            sources = np.stack([job.source for job in batch])
            found = first.search.run(sources, [job.mask for job in batch], first.beams)
        except Exception as error:  # whatever it is, the thread goes on
            _deliver(batch, error)
        else:
            _deliver(batch, found)


def _deliver(batch: Sequence[Job], results: Sequence[Found] | Exception) -> None:
    """Hands results to the event loops, one call for all jobs of a loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[int]] = {}
    for number, job in enumerate(batch):
        by_loop.setdefault(job.future.get_loop(), []).append(number)

    def settle(numbers: Sequence[int]) -> None:
        for number in numbers:
            future = batch[number].future
            if future.done():
                continue
            if isinstance(results, Exception):
                future.set_exception(results)
            else:
                future.set_result(results[number])

    for loop, numbers in by_loop.items():
        with contextlib.suppress(RuntimeError):  # a loop that has been closed waits for nothing
            loop.call_soon_threadsafe(settle, numbers)
