"""The queue and its batches, with a search that is none, so that its order can be watched."""

import asyncio
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from catid2_jax.errors import InputError
from catid2_jax.progress import console
from catid2_jax.serving.engine import Engine, Job, QueueFull
from catid2_jax.serving.search import CompiledSearch, LeastRecentlyUsed, Mask


class Search:
    """Notes its batches; waits for `gate` in each."""

    def __init__(self, room=4):
        self.room, self.batches = room, []
        self.gate, self.entered = threading.Event(), threading.Event()

    def queries_at_once(self, waiting, beams):
        return min(waiting, self.room // beams)

    def run(self, sources, masks, beams):
        self.batches.append((beams, sources.tolist()))
        self.entered.set()
        assert self.gate.wait(30)
        if -1 in sources:
            raise ValueError("a bad source")
        return [("found", int(source)) for source in sources]


@pytest.fixture
def engine():
    batches = []
    engine = Engine(8, lambda queries, rows: batches.append((queries, rows)))
    engine.batches = batches
    yield engine
    engine.close()


def jobs(search, numbers, beams=1):
    loop = asyncio.get_running_loop()
    return [Job(search, np.int32(n), None, beams, loop.create_future()) for n in numbers]


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


async def first_is_searched_for(engine, search):
    """A job that the thread is busy with, so that what comes next gathers."""
    first = jobs(search, [0])
    engine.submit(first)
    await asyncio.to_thread(search.entered.wait, 30)
    return first


def test_what_gathers_during_a_search_is_the_next_batch(engine):
    search = Search(room=4)

    async def main():
        waiting = await first_is_searched_for(engine, search)
        waiting += jobs(search, range(1, 7))
        engine.submit(waiting[1:4])
        engine.submit(waiting[4:])
        assert len(engine) == 6
        search.gate.set()
        return await asyncio.gather(*(job.future for job in waiting))

    assert run(main()) == [("found", n) for n in range(7)]
    assert search.batches == [(1, [0]), (1, [1, 2, 3, 4]), (1, [5, 6])]
    assert engine.batches == [(1, 1), (4, 4), (2, 2)]


def test_the_budget_counts_beams_and_the_oldest_goes_first(engine):
    """Jobs of other beams or of another version have batches of their own."""
    search, other = Search(room=4), Search(room=4)
    other.gate.set()

    async def main():
        waiting = await first_is_searched_for(engine, search)
        waiting += [
            *jobs(search, [1], beams=2),
            *jobs(other, [2]),
            *jobs(search, [3]),
            *jobs(search, [4, 5], beams=2),
            *jobs(other, [6]),
        ]
        engine.submit(waiting[1:])
        search.gate.set()
        await asyncio.gather(*(job.future for job in waiting))

    run(main())
    assert search.batches == [(1, [0]), (2, [1, 4]), (1, [3]), (2, [5])]
    assert other.batches == [(1, [2, 6])]


def test_a_full_queue_takes_all_or_none(engine):
    search = Search()

    async def main():
        waiting = await first_is_searched_for(engine, search)
        more = jobs(search, range(1, 8))
        engine.submit(more)
        for count in (2, 8):
            with pytest.raises(QueueFull) as error:
                engine.submit(jobs(search, range(count)))
            assert error.value.retry_after >= 1
            assert len(engine) == 7
        last = jobs(search, [8])
        engine.submit(last)
        search.gate.set()
        return await asyncio.gather(*(job.future for job in waiting + more + last))

    assert len(run(main())) == 9


def test_what_nobody_waits_for_is_not_searched_for(engine):
    search = Search()

    async def main():
        waiting = await first_is_searched_for(engine, search)
        more = jobs(search, [1, 2, 3])
        engine.submit(more)
        more[0].future.cancel()
        more[2].future.cancel()
        waiting[0].future.cancel()
        search.gate.set()
        return await more[1].future

    assert run(main()) == ("found", 2)
    assert search.batches == [(1, [0]), (1, [2])]


def test_an_error_is_told_to_its_batch_and_the_thread_goes_on(engine):
    search = Search(room=1)
    search.gate.set()

    async def main():
        bad, good = jobs(search, [-1, 5])
        engine.submit([bad, good])
        with pytest.raises(ValueError, match="a bad source"):
            await bad.future
        return await good.future

    assert run(main()) == ("found", 5)
    assert engine.alive


def test_closing_answers_what_waits():
    engine, search = Engine(8), Search(room=1)

    async def main():
        waiting = await first_is_searched_for(engine, search)
        waiting += jobs(search, [1, 2])
        engine.submit(waiting[1:])
        closing = asyncio.to_thread(engine.close)
        task = asyncio.ensure_future(closing)
        await asyncio.sleep(0.05)
        search.gate.set()
        found = await asyncio.gather(*(job.future for job in waiting))
        await task
        return found

    assert len(run(main())) == 3
    assert not engine.alive


@pytest.mark.parametrize(
    ("rows", "shapes"),
    [(10, [1]), (19, [1]), (20, [1, 2]), (30, [1, 2, 3]), (40, [1, 2, 4]), (90, [1, 2, 4, 8, 9])],
)
def test_shapes(rows, shapes):
    search = CompiledSearch(None, 10, 0, rows)
    assert search.shapes(10) == shapes
    assert max(shapes) * 10 <= rows


@pytest.mark.parametrize(
    ("seconds", "at_once"),
    [
        # Four times the shape, four times the seconds: nothing is padded, and full shapes go first.
        ({1: 1, 2: 2, 4: 4, 8: 8}, {1: 1, 2: 2, 3: 2, 5: 4, 7: 4, 8: 8, 20: 8}),
        # A call takes what it takes: all that waits, and as much as has room.
        ({1: 5, 2: 5, 4: 5, 8: 5}, {1: 1, 2: 2, 3: 3, 5: 5, 7: 7, 8: 8, 20: 8}),
        # 5 in 9 seconds are slower than 4 in 5; 7 in 9 seconds are not by much.
        ({1: 2, 2: 3, 4: 5, 8: 9}, {3: 2, 5: 4, 7: 7, 8: 8, 20: 8}),
        ({1: 4, 2: 5, 4: 7, 8: 11}, {3: 3, 5: 4, 7: 7, 8: 8, 20: 8}),
        ({}, {1: 1, 3: 3, 8: 8, 20: 8}),  # not timed
    ],
)
def test_as_many_at_once_as_are_answered_fastest(seconds, at_once):
    search = CompiledSearch(None, 10, 0, 80)
    search._seconds = {(10, shape): value for shape, value in seconds.items()}
    assert {waiting: search.queries_at_once(waiting, 10) for waiting in at_once} == at_once


def test_widths():
    assert list(CompiledSearch(None, 10, 0, 10).widths) == [10]
    assert list(CompiledSearch(None, 10, 35, 35).widths) == [10, 20, 35]
    for beams, most, rows, field in (
        (10, 0, 9, "beam_rows"),
        (10, 20, 19, "beam_rows"),
        (10, 9, 99, "max_beams"),
    ):
        with pytest.raises(InputError) as error:
            CompiledSearch(None, beams, most, rows)
        assert error.value.where == field


def test_the_least_recently_used_is_forgotten():
    kept = LeastRecentlyUsed(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert [kept.get(key) for key in "abc"] == [1, None, 3]
    nothing = LeastRecentlyUsed(0)
    nothing.put("a", 1)
    assert (nothing.get("a"), len(nothing)) == (None, 0)


def test_the_compilation_says_how_far_it_is(monkeypatch):
    shapes = []
    monkeypatch.setattr(
        CompiledSearch, "run", lambda self, sources, masks, beams: shapes.append(len(sources))
    )
    form = SimpleNamespace(shape=(3,), dtype=np.int32)
    search = CompiledSearch(SimpleNamespace(source=SimpleNamespace(form=form)), 10, 0, 40)
    with console.capture() as capture:
        search.prepare(Mask(np.ones(2, bool), (), ()))
    # With one mask, with one per query, and twice for the time.
    assert shapes == [1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4]
    assert capture.get() == "compiling the search: 3/3, 0 s\n"
