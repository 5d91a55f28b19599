"""WorkQueue: keys that need work, each at most once and with one worker at a time; a pure data structure.

Invariants (client-go's, property-tested):
  I1  a key is handed to at most one worker at a time;
  I2  no add is lost: one that comes while its key is processed makes it ready again when that ends;
  I3  any number of adds before a hand-out make one hand-out;
  I4  of several delayed adds of a key the earliest counts.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)

LOW_PRIORITY = -100
"""Of keys that nothing happened to: the first list after a start, a relist. Live events overtake them."""


class Item(NamedTuple, Generic[K]):
    """A key that was handed out.

    Attributes:
        key: what to work on; give it back with `WorkQueue.done`.
        priority: with which it waited; a retry keeps it.
        waited_s: from being ready to being handed out.
    """

    key: K
    priority: int
    waited_s: float


class WaitingKey(NamedTuple, Generic[K]):
    """A key in a snapshot, and for how many seconds it has been (or, if delayed, still will be) there."""

    key: K
    seconds: float


@dataclass(frozen=True, slots=True)
class QueueSnapshot(Generic[K]):
    """What a queue holds at a moment."""

    ready: tuple[WaitingKey[K], ...]
    delayed: tuple[WaitingKey[K], ...]
    processing: tuple[WaitingKey[K], ...]


@dataclass(slots=True)
class _Ready:
    priority: int
    sequence: int
    since: float


@dataclass(slots=True)
class WorkQueue(Generic[K]):
    """Keys that are ready, delayed or being processed. All times are the caller's clock, in seconds."""

    _ready: dict[K, _Ready] = field(default_factory=dict)
    _order: list[tuple[int, int, K]] = field(default_factory=list)
    _delayed: dict[K, tuple[float, int]] = field(default_factory=dict)
    _timers: list[tuple[float, int, K]] = field(default_factory=list)
    _processing: dict[K, float] = field(default_factory=dict)
    _again: dict[K, int] = field(default_factory=dict)
    _sequence: int = 0

    def __len__(self) -> int:
        """How many keys are ready."""
        return len(self._ready)

    @property
    def has_delayed(self) -> bool:
        """Whether any key waits for its time."""
        return bool(self._delayed)

    @property
    def processing(self) -> int:
        """How many keys workers have now."""
        return len(self._processing)

    def add(self, key: K, now: float, *, priority: int = 0) -> bool:
        """Makes a key ready, or marks it to be so again if it is being processed. A higher priority stays.

        Returns:
            Whether that is news: False for a key that was ready, or marked, already.
        """
        _, kept = self._delayed.pop(key, (0.0, priority))
        priority = max(priority, kept)
        if key in self._processing:
            news = key not in self._again
            self._again[key] = max(priority, self._again.get(key, priority))
            return news
        entry = self._ready.get(key)
        news = entry is None
        if entry is None:
            entry = self._ready[key] = _Ready(priority, self._next(), now)
        elif priority > entry.priority:
            entry.priority, entry.sequence = priority, self._next()
        else:
            return False
        heapq.heappush(self._order, (-entry.priority, entry.sequence, key))
        return news

    def add_after(self, key: K, delay_s: float, now: float, *, priority: int = 0) -> None:
        """Makes a key ready after a delay, unless something makes it so earlier."""
        if delay_s <= 0:
            self.add(key, now, priority=priority)
            return
        if key in self._ready:
            return
        due = now + delay_s
        before, kept = self._delayed.get(key, (float("inf"), priority))
        self._delayed[key] = (min(due, before), max(priority, kept))
        if due < before:
            heapq.heappush(self._timers, (due, self._next(), key))
        if len(self._timers) > 2 * len(self._delayed) + 64:
            # Superseded timers leave by the top of the heap only, which one quiet key can hold for long.
            self._timers = [timer for timer in self._timers if not self._stale(timer)]
            heapq.heapify(self._timers)

    def cancel(self, key: K) -> bool:
        """Withdraws a delayed add; returns whether there was one."""
        return self._delayed.pop(key, None) is not None

    def next_due(self) -> float | None:
        """When the next delayed key becomes ready, or None."""
        while self._timers and self._stale(self._timers[0]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def pop(self, now: float) -> Item[K] | None:
        """Hands out the best ready key, or None. Higher priority first, then the one that is ready the longest."""
        if self._timers:
            self.wake(now)
        while self._order:
            _, sequence, key = heapq.heappop(self._order)
            entry = self._ready.get(key)
            if entry is None or entry.sequence != sequence:
                continue
            del self._ready[key]
            self._processing[key] = now
            return Item(key, entry.priority, now - entry.since)
        return None

    def done(self, key: K, now: float) -> float:
        """Takes a key back from its worker; it is ready again if it was added meanwhile.

        Returns:
            Seconds for which the worker had it.

        Raises:
            KeyError: nobody has the key.
        """
        worked_s = now - self._processing.pop(key)
        if key in self._again:
            self.add(key, now, priority=self._again.pop(key))
        return worked_s

    def snapshot(self, now: float) -> QueueSnapshot[K]:
        """What is in the queue now: ready in hand-out order, delayed by due time, processing by start."""
        ready = sorted(self._ready.items(), key=lambda item: (-item[1].priority, item[1].sequence))
        delayed = sorted(self._delayed.items(), key=lambda item: item[1][0])
        processing = sorted(self._processing.items(), key=lambda item: item[1])
        return QueueSnapshot(
            tuple(WaitingKey(key, now - entry.since) for key, entry in ready),
            tuple(WaitingKey(key, due - now) for key, (due, _) in delayed),
            tuple(WaitingKey(key, now - since) for key, since in processing),
        )

    def wake(self, now: float) -> int:
        """Makes delayed keys whose time has come ready; returns for how many of them that is news."""
        news = 0
        while (due := self.next_due()) is not None and due <= now:
            _, _, key = heapq.heappop(self._timers)
            _, priority = self._delayed.pop(key)
            news += self.add(key, now, priority=priority)
        return news

    def _stale(self, timer: tuple[float, int, K]) -> bool:
        due, _, key = timer
        return key not in self._delayed or self._delayed[key][0] != due

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence
