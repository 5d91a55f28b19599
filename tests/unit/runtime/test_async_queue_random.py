"""AsyncQueue: workers that are cancelled, time out and give up keys at random moments lose none and share none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from kaito.runtime.async_queue import AsyncQueue
from kaito.runtime.workqueue import LOW_PRIORITY, Item
from kaito.testing import virtual_clock

WORKERS = 6
KEYS = 40
STEPS = 400


class Crew:
    """Workers, their queue, and what each key is owed."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.queue: AsyncQueue[int] = AsyncQueue()
        self.active: set[int] = set()
        self.owed: set[int] = set()
        self.workers = [asyncio.create_task(self.work()) for _ in range(WORKERS)]
        self.held = 0
        self.waiting = 0

    async def work(self) -> None:
        """Takes keys, now and then with a timeout that may strike at the very moment at which a key comes."""
        while True:
            try:
                async with asyncio.timeout(self.rng.choice([None, 0.01, 0.3, 1.0])):
                    item = await self.wait()
            except TimeoutError:
                continue
            if item is None:
                return
            assert item.key not in self.active
            self.active.add(item.key)
            self.owed.discard(item.key)
            try:
                await asyncio.sleep(self.rng.choice([0, 0, 0.1, 1.0]))
            except asyncio.CancelledError:
                self.add(item.key)
                raise
            finally:
                self.give_back(item.key)

    async def wait(self) -> Item[int] | None:
        self.waiting += 1
        try:
            return await self.queue.get()
        finally:
            self.waiting -= 1

    def give_back(self, key: int) -> None:
        """At once, or later from elsewhere, as a controller does with a reconcile that outlasts its timeout."""

        def done() -> None:
            self.active.discard(key)
            self.queue.done(key)

        if self.rng.random() < 0.2:
            self.held += 1
            asyncio.get_running_loop().call_later(self.rng.choice([0.1, 5.0]), done)
        else:
            done()

    def add(self, key: int) -> None:
        self.owed.add(key)
        self.queue.add(key, priority=self.rng.choice([0, LOW_PRIORITY]))

    def add_after(self, key: int) -> None:
        self.owed.add(key)
        self.queue.add_after(key, self.rng.choice([0.01, 0.3, self.rng.random()]))

    def discard(self, key: int) -> None:
        assert self.queue.discard(key) == (key in self.owed)
        self.owed.discard(key)

    def dismiss(self, _: int) -> None:
        # Without a successor, who would look for a key first thing and so hide a wake-up that was lost.
        if len(self.workers) > 2:
            self.workers.pop(self.rng.randrange(len(self.workers))).cancel()

    def hire(self, _: int) -> None:
        if len(self.workers) < WORKERS:
            self.workers.append(asyncio.create_task(self.work()))


@pytest.mark.parametrize("seed", range(40))
def test_random_workers_cancelled_at_random_moments_neither_lose_nor_share_a_key(seed: int) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        crew = Crew(rng)
        steps: list[Callable[[int], None]] = [
            *[crew.add] * 2,
            crew.add_after,
            crew.discard,
            *[crew.dismiss] * 2,
            *[crew.hire] * 2,
        ]
        for _ in range(STEPS):
            rng.choice(steps)(rng.randrange(KEYS))
            if rng.random() < 0.7:
                await asyncio.sleep(rng.choice([0, 0, 0.01, 0.3]))
            if rng.random() < 0.3:
                # An odd moment, at which nothing else happens: whoever was woken has run.
                await asyncio.sleep(0.00371 * rng.random())
                assert not (len(crew.queue) and crew.waiting), "a worker sleeps beside a ready key"
        await asyncio.sleep(100.0)
        assert not crew.owed
        assert crew.held
        assert (len(crew.queue), crew.queue.processing) == (0, 0)
        crew.queue.close()
        await asyncio.gather(*crew.workers)

    virtual_clock.run(main(), seed=seed)
