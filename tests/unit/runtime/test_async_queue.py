"""AsyncQueue: no key is lost and no worker sleeps beside a ready key, whatever is cancelled when."""

from __future__ import annotations

import asyncio
import time

import pytest

from kaito.runtime.async_queue import AsyncQueue
from kaito.testing import virtual_clock
from tests.unit.runtime.queue_workers import a_turn, getter


def test_a_waiting_worker_gets_the_key_that_is_added() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        got: list[str] = []
        task = getter(queue, got)
        await a_turn()
        queue.add("a")
        await task
        assert got == ["a"]
        assert queue.processing == 1

    virtual_clock.run(main())


def test_each_of_many_waiting_workers_gets_one_of_many_keys() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        got: list[str] = []
        tasks = [getter(queue, got) for _ in range(20)]
        await a_turn()
        for number in range(20):
            queue.add(f"{number:02}")
        await asyncio.gather(*tasks)
        assert got == [f"{number:02}" for number in range(20)]

    virtual_clock.run(main())


def test_one_key_wakes_one_worker_and_leaves_the_others_asleep() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        got: list[str] = []
        tasks = [getter(queue, got) for _ in range(3)]
        await a_turn()
        queue.add("a")
        await a_turn()
        assert got == ["a"]
        assert sum(task.done() for task in tasks) == 1
        queue.close()
        await asyncio.gather(*tasks)
        assert got == ["a", "closed", "closed"]

    virtual_clock.run(main())


def test_a_worker_cancelled_right_after_it_was_woken_passes_the_key_on() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        got: list[str] = []
        first, second = getter(queue, got), getter(queue, got)
        await a_turn()
        queue.add("a")
        first.cancel()
        await asyncio.wait([second], timeout=1.0)
        assert got == ["a"]
        assert first.cancelled()

    virtual_clock.run(main())


def test_all_but_one_worker_cancelled_right_after_being_woken_lose_no_key() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        got: list[str] = []
        tasks = [getter(queue, got) for _ in range(4)]
        await a_turn()
        for key in "abc":
            queue.add(key)
        for task in tasks[:3]:
            task.cancel()
        await asyncio.wait(tasks, timeout=1.0)
        assert got == ["a"]
        assert [item.key for _ in range(2) if (item := await queue.get())] == ["b", "c"]

    virtual_clock.run(main())


def test_a_key_taken_by_a_newcomer_leaves_the_woken_worker_waiting_for_the_next() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        got: list[str] = []
        waiting = getter(queue, got)
        await a_turn()
        queue.add("a")
        item = await queue.get()  # does not yield: it overtakes the one that was woken
        assert item is not None
        assert item.key == "a"
        await a_turn()
        assert not waiting.done()
        queue.add("b")
        await waiting
        assert got == ["b"]

    virtual_clock.run(main())


def test_a_delayed_key_comes_at_its_time_and_wakes_a_worker() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        queue.add_after("a", 30.0)
        item = await queue.get()
        assert item is not None
        assert asyncio.get_running_loop().time() == 30.0

    virtual_clock.run(main())


def test_times_are_finer_than_milliseconds_and_delays_are_kept_on_uvloop() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        queue.add("a")
        await queue.get()
        began = time.perf_counter()
        seconds = {queue.seconds_in_work()[0] for _ in range(1000)}
        assert len(seconds) > 100
        assert max(seconds) < time.perf_counter() - began + 1.0
        queue.add_after("b", 0.02)
        item = await asyncio.wait_for(queue.get(), 5.0)
        assert item is not None
        assert item.key == "b"
        assert time.perf_counter() - began > 0.019

    pytest.importorskip("uvloop").run(main())


def test_an_earlier_delayed_key_moves_the_timer_forward_and_the_later_one_still_comes() -> None:
    async def main() -> list[tuple[float, str]]:
        queue: AsyncQueue[str] = AsyncQueue()
        times: list[tuple[float, str]] = []

        async def work() -> None:
            while (item := await queue.get()) is not None:
                times.append((asyncio.get_running_loop().time(), item.key))
                queue.done(item.key)

        worker = asyncio.create_task(work())
        await a_turn()
        for key, delay_s in (("late", 20.0), ("early", 5.0), ("between", 10.0)):
            queue.add_after(key, delay_s)
        await asyncio.sleep(60.0)
        queue.close()
        await worker
        return times

    assert virtual_clock.run(main()) == [(5.0, "early"), (10.0, "between"), (20.0, "late")]


def test_a_timer_outlives_the_worker_that_set_it() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        got: list[str] = []
        first = getter(queue, got)
        await a_turn()
        queue.add_after("a", 5.0)
        first.cancel()
        second = getter(queue, got)
        await asyncio.wait([first, second], timeout=10.0)
        assert got == ["a"]

    virtual_clock.run(main())


def test_a_delay_of_zero_or_less_is_none() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        queue.add_after("a", 0.0)
        queue.add_after("b", -1.0)
        assert len(queue) == 2

    virtual_clock.run(main())


def test_a_key_stays_away_from_workers_until_somebody_gives_it_back() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        got: list[str] = []
        queue.add("held")
        await queue.get()
        queue.add("held")
        queue.add("other")
        workers = [getter(queue, got) for _ in range(2)]
        asyncio.get_running_loop().call_later(60.0, queue.done, "held")
        await asyncio.gather(*workers)
        assert got == ["other", "held"]
        assert asyncio.get_running_loop().time() == 60.0

    virtual_clock.run(main())


def test_a_worker_cancelled_before_a_key_comes_does_not_take_the_wake_up_of_another() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        got: list[str] = []
        first, second = getter(queue, got), getter(queue, got)
        await a_turn()
        first.cancel()
        queue.add("a")  # the first has not run since, and still stands in the line
        await asyncio.wait([second], timeout=1.0)
        assert got == ["a"]

    virtual_clock.run(main())


def test_a_cancelled_delay_wakes_nobody_and_the_next_one_comes_at_its_time() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        queue.add_after("early", 5.0)
        queue.add_after("late", 20.0)
        assert queue.cancel("early")
        item = await queue.get()
        assert item is not None
        assert (item.key, asyncio.get_running_loop().time()) == ("late", 20.0)

    virtual_clock.run(main())


def test_the_snapshot_shows_what_is_where() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        queue.add("working")
        await queue.get()
        queue.add("ready")
        queue.add_after("delayed", 5.0)
        await asyncio.sleep(1.0)
        snapshot = queue.snapshot()
        assert [tuple(key) for key in snapshot.processing] == [("working", 0, 1.0, False)]
        assert [tuple(key) for key in snapshot.ready] == [("ready", 0, 1.0, False)]
        assert [tuple(key) for key in snapshot.delayed] == [("delayed", 0, 4.0, False)]

    virtual_clock.run(main())
