"""The event loop under virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import time
from datetime import timedelta

import pytest

from kaito.testing.virtual_clock import EPOCH, Deadlock, Livelock, NotDeterministic, TimeLimitExceeded, run, wall


def test_a_day_passes_in_no_time() -> None:
    async def main() -> float:
        await asyncio.sleep(80_000)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run(main()) == 80_000
    assert time.monotonic() - began < 5


def test_wall_is_the_epoch_plus_virtual_seconds() -> None:
    async def main() -> None:
        assert wall() == EPOCH
        await asyncio.sleep(90.5)
        assert wall() == EPOCH + timedelta(seconds=90.5)

    run(main())
    assert wall() == EPOCH


async def test_wall_is_the_real_time_in_a_real_loop() -> None:
    assert wall() > EPOCH + timedelta(days=300)


def test_timeouts_and_timers_go_off_at_their_exact_time() -> None:
    async def main() -> list[tuple[str, float]]:
        loop, seen = asyncio.get_running_loop(), []
        loop.call_later(0.3, lambda: seen.append(("later", loop.time())))
        loop.call_at(0.1, lambda: seen.append(("at", loop.time())))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                await asyncio.Event().wait()
        return [*seen, ("timeout", loop.time())]

    assert run(main()) == [("at", 0.1), ("later", 0.3), ("timeout", 0.7)]


def test_timers_of_the_same_moment_run_in_the_order_they_were_set() -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        for number in range(20):
            asyncio.get_running_loop().call_at(1.0, seen.append, number)
        await asyncio.sleep(2)
        return seen

    assert run(main()) == list(range(20))


def test_deadlock_names_the_tasks_and_where_they_wait() -> None:
    async def wait_for_godot() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(wait_for_godot(), name="vladimir")

    with pytest.raises(Deadlock, match=r"vladimir in .*wait_for_godot"):
        run(main())


def test_the_time_limit_names_the_tasks_that_still_wait() -> None:
    async def main() -> None:
        for delay_s in itertools.repeat(10):
            await asyncio.sleep(delay_s)

    with pytest.raises(TimeLimitExceeded, match=r"passed 60 s; waiting: task-0 in .*main"):
        run(main(), limit_s=60)


def test_cleanup_still_runs_after_the_time_limit() -> None:
    cleaned: list[float] = []

    async def main() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(5)
            cleaned.append(asyncio.get_running_loop().time())

    with pytest.raises(TimeLimitExceeded):
        run(main(), limit_s=60)
    assert cleaned


def test_spinning_without_progress_is_found() -> None:
    async def main() -> None:
        for delay_s in itertools.repeat(0):
            await asyncio.sleep(delay_s)

    with pytest.raises(Livelock, match="clock does not move"):
        run(main())


def test_threads_are_refused_by_name() -> None:
    async def main() -> None:
        await asyncio.to_thread(time.sleep, 1)

    with pytest.raises(NotDeterministic, match=r"run_in_executor\(sleep\)"):
        run(main())


def test_sockets_are_refused() -> None:
    async def main() -> None:
        await asyncio.open_connection("localhost", 1)

    with pytest.raises(NotDeterministic, match="getaddrinfo"):
        run(main())


def test_the_seed_decides_what_random_says_and_is_taken_back() -> None:
    async def main() -> float:
        return random.random()

    random.seed(5)
    expected = random.random()
    random.seed(5)
    assert run(main(), seed=1) == run(main(), seed=1) != run(main(), seed=2)
    assert random.random() == expected


def test_sets_of_tasks_iterate_in_the_order_the_tasks_were_made() -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(asyncio.sleep(1)) for _ in range(100)]
        done, _ = await asyncio.wait(tasks)
        assert list(done) == tasks

    run(main())


def test_a_task_group_cancels_its_members_in_the_order_they_were_made() -> None:
    cancelled: list[int] = []

    async def member(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(number)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(member(number))
            await asyncio.sleep(1)
            raise ValueError

    with pytest.raises(ExceptionGroup):
        run(main())
    assert cancelled == list(range(100))


def test_a_second_run_names_its_tasks_alike() -> None:
    async def main() -> str:
        return asyncio.create_task(asyncio.sleep(0)).get_name()

    assert run(main()) == run(main())


def test_signals_come_only_from_raise_signal() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
        loop.call_later(30, loop.raise_signal, signal.SIGTERM)  # type: ignore[attr-defined]
        await stopped.wait()
        assert loop.remove_signal_handler(signal.SIGTERM)
        with pytest.raises(NotDeterministic, match="SIGTERM"):
            loop.raise_signal(signal.SIGTERM)  # type: ignore[attr-defined]
        return loop.time()

    assert run(main()) == 30
