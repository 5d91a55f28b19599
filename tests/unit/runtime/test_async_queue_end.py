"""AsyncQueue: how it ends: closed, drained, idle."""

from __future__ import annotations

import asyncio

import pytest

from kaito.runtime.async_queue import AsyncQueue
from kaito.testing import virtual_clock
from tests.unit.runtime.queue_workers import a_turn, getter


def test_closing_wakes_every_worker_and_ignores_what_comes_later() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        got: list[str] = []
        queue.add_after("never", 5.0)
        tasks = [getter(queue, got) for _ in range(3)]
        await a_turn()
        queue.close()
        queue.close()
        queue.add("late")
        queue.add_after("later", 1.0)
        await asyncio.gather(*tasks)
        assert got == ["closed"] * 3
        assert await queue.get() is None
        await asyncio.sleep(10.0)
        assert len(queue) == 0

    virtual_clock.run(main())


def test_a_closed_queue_hands_out_nothing_even_when_keys_are_ready() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        queue.add("a")
        queue.close()
        assert await queue.get() is None

    virtual_clock.run(main())


def test_waiting_for_idle_ends_when_the_last_key_comes_back() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        await asyncio.wait_for(queue.wait_idle(), 1.0)
        for key in "ab":
            queue.add(key)
            await queue.get()
        waiters = [asyncio.create_task(queue.wait_idle()) for _ in range(3)]
        await a_turn()
        waiters[0].cancel()
        queue.done("a")
        await a_turn()
        assert not waiters[1].done()
        queue.close()
        queue.done("b")
        await asyncio.wait(waiters, timeout=1.0)
        assert [waiter.cancelled() for waiter in waiters] == [True, False, False]

    virtual_clock.run(main())


def test_closing_does_not_wait_for_keys_that_come_back_later_nor_refuses_them() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        queue.add("given up by its worker")
        await queue.get()
        queue.add("given up by its worker")
        idle = asyncio.create_task(queue.wait_idle())
        queue.close()
        await a_turn()
        assert not idle.done()
        queue.done("given up by its worker")
        await asyncio.wait_for(idle, 1.0)
        assert await queue.get() is None
        assert queue.depths() == {}

    virtual_clock.run(main())


def test_draining_hands_out_what_is_ready_takes_nothing_in_and_ends_when_all_has_come_back() -> None:
    async def main() -> list[str]:
        queue: AsyncQueue[str] = AsyncQueue()
        worked: list[str] = []

        async def work() -> None:
            while (item := await queue.get()) is not None:
                worked.append(item.key)
                await asyncio.sleep(10.0)
                queue.add(f"after {item.key}")
                queue.add_after(item.key, 1.0)
                queue.done(item.key)

        for key in "abc":
            queue.add(key)
        queue.add_after("delayed", 5.0)
        workers = [asyncio.create_task(work()) for _ in range(2)]
        await a_turn()
        queue.add("a")  # is being processed: ready once more when it comes back
        await asyncio.gather(queue.drain(), queue.drain())
        await asyncio.gather(*workers)
        assert asyncio.get_running_loop().time() == 20.0
        return worked

    assert virtual_clock.run(main()) == ["a", "b", "c", "a"]


def test_closing_ends_a_drain_at_once() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        queue.add("a")
        await queue.get()
        queue.add("b")
        draining = asyncio.create_task(queue.drain())
        await a_turn()
        assert not draining.done()
        queue.close()
        await asyncio.wait_for(draining, 1.0)
        assert queue.processing == 1

    virtual_clock.run(main())


def test_a_drain_given_up_leaves_a_queue_that_takes_nothing_in_and_can_be_drained_again() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        queue.add("a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.drain(), 1.0)
        queue.add("late")
        assert [item.key for item in [await queue.get()] if item] == ["a"]
        draining = asyncio.create_task(queue.drain())
        queue.done("a")
        await asyncio.wait_for(draining, 1.0)
        assert await queue.get() is None

    virtual_clock.run(main())


def test_discarding_the_last_key_ends_a_drain() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        queue.add("a")
        draining = asyncio.create_task(queue.drain())
        await a_turn()
        assert queue.discard("a")
        await asyncio.wait_for(draining, 1.0)

    virtual_clock.run(main())


def test_waiters_for_idle_that_gave_up_leave_nothing_behind() -> None:
    async def main() -> None:
        queue: AsyncQueue[str] = AsyncQueue()
        queue.add("a")
        await queue.get()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(queue.wait_idle(), 1.0)
        assert queue._watchers == []

    virtual_clock.run(main())
