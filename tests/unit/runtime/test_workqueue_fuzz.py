"""WorkQueue: a million operations from a seed, with workers; no key is with two of them and none is lost."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kaito.runtime.workqueue import LOW_PRIORITY, WorkQueue

OPERATIONS_PER_SEED = 100_000
KEYS = 300
WORKERS = 8
PRIORITIES = (LOW_PRIORITY, LOW_PRIORITY, 0, 0, 0, 10)


class Shop:
    """Workers at a queue, and a ledger of what it owes them.

    Attributes:
        owed: keys that were added since they were handed out last, each with the time from which it may be asked for.
        hands: what each worker has.
        now: the time; a step of 1 each time that the operations let it pass.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.queue: WorkQueue[int] = WorkQueue()
        self.owed: dict[int, float] = {}
        self.hands: list[int | None] = [None] * WORKERS
        self.now = 0.0
        self.hand_outs = 0

    def add(self) -> None:
        key = self.rng.randrange(KEYS)
        self.queue.add(key, self.now, priority=self.rng.choice(PRIORITIES))
        self.owed[key] = min(self.owed.get(key, self.now), self.now)

    def add_after(self) -> None:
        key, delay_s = self.rng.randrange(KEYS), self.rng.randrange(50)
        self.queue.add_after(key, delay_s, self.now, priority=self.rng.choice(PRIORITIES))
        due = self.now + delay_s
        self.owed[key] = min(self.owed.get(key, due), due)

    def cancel(self) -> None:
        key = self.rng.randrange(KEYS)
        if self.queue.cancel(key):
            # A delay alone was owed: whatever is due is no delayed add any more, or will not be at the next hand-out.
            del self.owed[key]

    def discard(self) -> None:
        key = self.rng.randrange(KEYS)
        assert self.queue.discard(key) == (self.owed.pop(key, None) is not None)

    def work(self) -> None:
        """A worker gives back what it has, or takes something."""
        worker = self.rng.randrange(WORKERS)
        key = self.hands[worker]
        if key is not None:
            self.hands[worker] = None
            self.queue.done(key, self.now)
        else:
            self.take(worker)

    def take(self, worker: int) -> None:
        item = self.queue.pop(self.now)
        if item is None:
            # Whatever else is owed is in the hands of a worker, or later.
            assert all(due > self.now or key in self.hands for key, due in self.owed.items())
            return
        assert item.key not in self.hands
        assert self.owed.pop(item.key) <= self.now
        self.hands[worker] = item.key
        self.hand_outs += 1

    def pass_time(self) -> None:
        self.now += 1.0

    def settle(self) -> None:
        """Ends all work, waits for all delays, and takes all that is left, once."""
        self.now += 100.0
        for key in self.hands:
            if key is not None:
                self.queue.done(key, self.now)
        while (item := self.queue.pop(self.now)) is not None:
            del self.owed[item.key]
        assert not self.owed


@pytest.mark.parametrize("seed", range(10))
def test_no_key_is_with_two_workers_and_none_is_lost_in_a_hundred_thousand_operations(seed: int) -> None:
    shop = Shop(seed)
    operations: list[Callable[[], None]] = [
        *[shop.add] * 4,
        *[shop.add_after] * 2,
        *[shop.work] * (8 + seed),  # from a queue that is never empty to one that mostly is
        shop.cancel,
        shop.discard,
        shop.pass_time,
    ]
    for operation in shop.rng.choices(operations, k=OPERATIONS_PER_SEED):
        operation()
    assert shop.hand_outs > OPERATIONS_PER_SEED / 10
    shop.settle()
