"""AsyncQueue: a WorkQueue that workers can wait on; one timer for all delayed keys."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Generic, TypeVar

from kaito.runtime.queue_metrics import QueueMetrics
from kaito.runtime.workqueue import MAX_OVERTAKES, Item, QueuedKey, QueueSnapshot, WorkQueue

K = TypeVar("K", bound=Hashable)


class AsyncQueue(Generic[K]):
    """Thin asyncio adapter of `WorkQueue`; its clock is that of the loop in which it is first used.

    A key belongs to whoever got it until somebody calls `done` with it: that need not be the worker, and may be after
    `close`. So a key can stay away from other workers for as long as something that a worker gave up still runs.

    Args:
        metrics: what is read and told of it; None: nothing.
        max_overtakes: see `WorkQueue`.
    """

    def __init__(self, metrics: QueueMetrics | None = None, *, max_overtakes: int = MAX_OVERTAKES) -> None:
        self._queue: WorkQueue[K] = WorkQueue(max_overtakes)
        self._clock: Callable[[], float] | None = None
        self._metrics = metrics
        self._getters: deque[asyncio.Future[None]] = deque()
        self._watchers: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._taking = True
        self._closed = False
        if metrics is not None:
            metrics.watch(self)

    def __len__(self) -> int:
        """How many keys are ready."""
        return len(self._queue)

    @property
    def adds(self) -> int:
        """How many adds were news so far."""
        return self._queue.adds

    @property
    def retries(self) -> int:
        """How many adds with a delay there were so far."""
        return self._queue.retries

    @property
    def processing(self) -> int:
        """How many keys are handed out now."""
        return self._queue.processing

    def depths(self) -> dict[int, int]:
        """See `WorkQueue.depths`."""
        return self._queue.depths()

    def in_work(self) -> tuple[QueuedKey[K], ...]:
        """See `WorkQueue.in_work`."""
        return self._queue.in_work(self._clock()) if self._clock is not None else ()

    def seconds_in_work(self) -> list[float]:
        """For how long each key that is being processed has been away."""
        return [work.seconds for work in self.in_work()]

    def snapshot(self) -> QueueSnapshot[K]:
        """See `WorkQueue.snapshot`."""
        return self._queue.snapshot(self._now())

    def waiting_for(self, seconds: float) -> list[K]:
        """See `WorkQueue.waiting_for`."""
        return self._queue.waiting_for(seconds, self._now())

    def count_from_now(self) -> None:
        """See `WorkQueue.count_from`."""
        self._queue.count_from(self._now())

    def add(self, key: K, *, priority: int = 0) -> None:
        """Makes a key ready. Ignored once the queue is drained or closed."""
        if self._taking and self._queue.add(key, self._now(), priority=priority) and self._getters:
            self._wake()

    def add_after(self, key: K, delay_s: float, *, priority: int = 0) -> None:
        """Makes a key ready after a delay. Ignored once the queue is drained or closed."""
        if self._taking:
            self._queue.add_after(key, delay_s, self._now(), priority=priority)
            self._wake()
            self._set_timer()

    def cancel(self, key: K) -> bool:
        """See `WorkQueue.cancel`."""
        return self._queue.cancel(key)

    def discard(self, key: K) -> bool:
        """See `WorkQueue.discard`."""
        found = self._queue.discard(key)
        self._tell_watchers()
        return found

    async def get(self) -> Item[K] | None:
        """Waits for a key; None once the queue is closed. Cancellation leaves the queue as it was."""
        while not self._closed:
            item = self._queue.pop(self._now())
            if item is not None:
                if self._metrics is not None:
                    self._metrics.queued.observe(item.waited_s)
                return item
            await self._woken()
        return None

    def done(self, key: K) -> None:
        """Takes a key back, from its worker or from whoever it was left to.

        Raises:
            KeyError: nobody has the key.
        """
        worked_s = self._queue.done(key, self._now())
        if self._metrics is not None:
            self._metrics.worked.observe(worked_s)
        if self._getters:
            self._wake()
        self._tell_watchers()

    def close(self) -> None:
        """Takes nothing in and hands nothing out any more, and forgets what waits; waiting workers get None.

        What is being processed stays so until it comes back. A second time is harmless.
        """
        self._closed = True
        self._stop_taking()
        self._queue.clear()
        while self._getters:
            _finish(self._getters.popleft())
        self._tell_watchers()

    async def drain(self) -> None:
        """Takes nothing in, hands out what is ready, waits until that and all else has come back, and closes.

        What is delayed is forgotten. `close` ends it at once. A cancellation leaves the queue as it is then: it still
        takes nothing in.
        """
        self._stop_taking()
        while not self._closed and (self._queue.waiting or self._queue.processing):
            await self._watch()
        self.close()

    async def wait_idle(self) -> None:
        """Waits until nobody has a key."""
        while self._queue.processing:
            await self._watch()

    def _now(self) -> float:
        clock = self._clock
        if clock is None:
            clock = self._clock = clock_of(asyncio.get_running_loop())
        return clock()

    def _stop_taking(self) -> None:
        self._taking = False
        self._queue.cancel_all()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _woken(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._getters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._getters.remove(waiter)
            # Woken and then cancelled before it could run, or cancelled and then, still in the line, woken in vain:
            # either way the key that it was woken for is another's.
            self._wake()
            raise

    def _wake(self) -> None:
        # One waiter per ready key: waking all of them for each key would be quadratic.
        for _ in range(min(len(self._queue), len(self._getters))):
            _finish(self._getters.popleft())

    async def _watch(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append(waiter)
        try:
            await waiter
        finally:
            self._watchers.remove(waiter)

    def _tell_watchers(self) -> None:
        if self._watchers and (self._closed or not self._queue.processing):
            for waiter in self._watchers:
                _finish(waiter)

    def _set_timer(self) -> None:
        due = self._queue.next_due()
        if self._timer is not None:
            if due is not None and self._timer_due <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_due = due
            self._timer = asyncio.get_running_loop().call_later(due - self._now(), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._queue.wake(self._now())
        self._wake()
        self._set_timer()


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The loop's clock; of loops that are not asyncio's own the machine's, since uvloop counts in milliseconds."""
    return loop.time if isinstance(loop, asyncio.BaseEventLoop) else time.monotonic


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
