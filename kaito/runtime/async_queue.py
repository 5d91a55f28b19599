"""AsyncQueue: a WorkQueue that workers can wait on; one timer for all delayed keys."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from kaito.runtime.queue_metrics import QueueMetrics
from kaito.runtime.workqueue import Item, QueueSnapshot, WorkQueue

K = TypeVar("K", bound=Hashable)


class AsyncQueue(Generic[K]):
    """Thin asyncio adapter of `WorkQueue`; its clock is the running loop's.

    Args:
        metrics: told of adds, waits and work; None: nobody.
    """

    def __init__(self, metrics: QueueMetrics | None = None) -> None:
        self._queue: WorkQueue[K] = WorkQueue()
        self._metrics = metrics
        self._getters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = float("inf")
        self._closed = False
        self._idle_waiters: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def processing(self) -> int:
        """How many keys workers have now."""
        return self._queue.processing

    def add(self, key: K, *, priority: int = 0) -> None:
        """Makes a key ready. Ignored after `close`."""
        if self._closed:
            return
        self._count_added(self._queue.add(key, _now(), priority=priority))
        self._wake()

    def add_after(self, key: K, delay_s: float, *, priority: int = 0) -> None:
        """Makes a key ready after a delay. Ignored after `close`."""
        if self._closed:
            return
        if self._metrics is not None:
            self._metrics.delayed()
        if delay_s <= 0:
            self.add(key, priority=priority)
            return
        self._queue.add_after(key, delay_s, _now(), priority=priority)
        self._set_timer()

    async def get(self) -> Item[K] | None:
        """Waits for a key; None once the queue is closed. Cancellation leaves the queue as it was."""
        while not self._closed:
            now = _now()
            if self._queue.has_delayed:
                self._count_added(self._queue.wake(now))
            item = self._queue.pop(now)
            if item is not None:
                if self._metrics is not None:
                    self._metrics.handed_out(item.waited_s, len(self._queue))
                return item
            self._set_timer()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                raise
            finally:
                if waiter in self._getters:
                    self._getters.remove(waiter)
        return None

    def done(self, key: K) -> None:
        """Takes a key back from its worker."""
        worked_s = self._queue.done(key, _now())
        if self._metrics is not None:
            self._metrics.done(worked_s, len(self._queue))
        self._wake()
        if not self._queue.processing:
            while self._idle_waiters:
                _finish(self._idle_waiters.pop())

    def close(self) -> None:
        """Takes nothing in and hands nothing out any more; waiting workers get None."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._getters:
            _finish(self._getters.popleft())

    async def wait_idle(self) -> None:
        """Waits until no worker has a key."""
        while self._queue.processing:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle_waiters.append(waiter)
            await waiter

    def snapshot(self) -> QueueSnapshot[K]:
        """What is in the queue now."""
        return self._queue.snapshot(_now())

    def _count_added(self, news: int) -> None:
        # As client-go counts: not those that were in the queue already.
        if news and self._metrics is not None:
            self._metrics.added(news, len(self._queue))

    def _wake(self) -> None:
        if not self._getters:
            return
        # One waiter per ready key: waking all of them for each key would be quadratic.
        for _ in range(min(len(self._queue), len(self._getters))):
            _finish(self._getters.popleft())

    def _set_timer(self) -> None:
        due = self._queue.next_due()
        if due is None or (self._timer is not None and self._timer_due <= due and not self._timer.cancelled()):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._timer_due = float("inf")
        self._count_added(self._queue.wake(_now()))
        self._wake()
        self._set_timer()


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _now() -> float:
    return asyncio.get_running_loop().time()
