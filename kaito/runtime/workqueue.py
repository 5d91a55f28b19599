"""WorkQueue: keys that need work, each at most once and with one worker at a time; a pure data structure.

Invariants (client-go's, property-tested):
  I1  a key is handed to at most one worker at a time, and is not ready meanwhile;
  I2  no add is lost: one that comes while its key is processed makes it ready again when that ends;
  I3  any number of adds before a hand-out make one hand-out;
  I4  of several delayed adds of a key the earliest counts;
  I5  a key that was added while it was processed is handed out exactly once more.

Ageing (ours; controller-runtime's priorities can starve a key for ever): at most `max_overtakes` hand-outs in a row
pass over the key that is ready the longest; then it is its turn, whatever its priority. So a key with n keys ready
before it leaves with hand-out number ``(n + 1) * (max_overtakes + 1)`` at the latest. It is a share of the hand-outs
and not a bonus for time waited: behind a backlog of minutes every key is old, and a live event must still come first.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)

LOW_PRIORITY = -100
"""Of keys that nothing happened to: the first list after a start, a relist. Live events overtake them."""
MAX_OVERTAKES = 9
"""One hand-out in ten goes to the oldest key: what a wave of low priority takes from live events at most."""

_NEVER = float("inf")
# Below this many, entries that were superseded stay in a heap until they come to its top.
_SPARE = 64


class Item(NamedTuple, Generic[K]):
    """A key that was handed out.

    Attributes:
        key: what to work on; give it back with `WorkQueue.done`.
        priority: with which it waited; a retry keeps it.
        waited_s: from its first add to being handed out, as client-go counts: without a delay, but with the time for
            which a worker still had it.
    """

    key: K
    priority: int
    waited_s: float


class QueuedKey(NamedTuple, Generic[K]):
    """A key in a snapshot.

    Attributes:
        key: which.
        priority: with which it waits, or was handed out.
        seconds: since it was added or handed out; of a delayed key, until its time comes.
        again: of a key that is processed: whether it was added meanwhile.
    """

    key: K
    priority: int
    seconds: float
    again: bool = False


@dataclass(frozen=True, slots=True)
class QueueSnapshot(Generic[K]):
    """What a queue holds at a moment.

    Attributes:
        ready: by priority, then by time: ageing moves keys forward in this order.
        delayed: the next one first; a key that is processed may be among them too.
        processing: the one that was handed out first, first.
    """

    ready: tuple[QueuedKey[K], ...]
    delayed: tuple[QueuedKey[K], ...]
    processing: tuple[QueuedKey[K], ...]


class _Waiting:
    """A key that is ready, or will be when its worker gives it back; `sequence` is its place among its priority."""

    __slots__ = ("priority", "sequence", "since")

    def __init__(self, priority: int, sequence: int, since: float) -> None:
        self.priority = priority
        self.sequence = sequence
        self.since = since


class WorkQueue(Generic[K]):
    """Keys that are ready, delayed or being processed. All times are the caller's clock, in seconds.

    Args:
        max_overtakes: hand-outs in a row that may pass over the oldest ready key; 0: first come, first served.

    Attributes:
        adds: how many adds were news so far.
        retries: how many adds with a delay there were so far.

    Raises:
        ValueError: `max_overtakes` is negative.
    """

    def __init__(self, max_overtakes: int = MAX_OVERTAKES) -> None:
        if max_overtakes < 0:
            raise ValueError(f"WorkQueue: max_overtakes is {max_overtakes}; 0 or more is allowed")
        self.adds = 0
        self.retries = 0
        self._max_overtakes = max_overtakes
        self._overtakes = 0
        # In the order in which they became ready: the first is the oldest. A dict's own order would be enough, were
        # looking at its first entry not linear in how many were deleted before it.
        self._ready: OrderedDict[K, _Waiting] = OrderedDict()
        self._order: list[tuple[int, int, K]] = []
        self._again: dict[K, _Waiting] = {}
        self._delayed: dict[K, tuple[float, int]] = {}
        self._timers: list[tuple[float, int, K]] = []
        self._processing: dict[K, tuple[float, int]] = {}
        self._depths: dict[int, int] = {}
        self._sequence = 0

    def __len__(self) -> int:
        """How many keys are ready."""
        return len(self._ready)

    @property
    def waiting(self) -> int:
        """How many keys are ready, or will be as soon as their workers give them back."""
        return len(self._ready) + len(self._again)

    @property
    def processing(self) -> int:
        """How many keys workers have now."""
        return len(self._processing)

    def depths(self) -> dict[int, int]:
        """How many keys are waiting, by priority; priorities that none has are left out."""
        return self._depths.copy()

    def in_work(self, now: float) -> tuple[QueuedKey[K], ...]:
        """The keys that are being processed, the one that was handed out first, first; cheaper than a snapshot."""
        return tuple(
            QueuedKey(key, priority, now - since, key in self._again)
            for key, (since, priority) in self._processing.items()
        )

    def add(self, key: K, now: float, *, priority: int = 0) -> bool:
        """Makes a key ready, or marks it to be so again if it is being processed. A higher priority stays.

        Returns:
            Whether that is news: False for a key that was ready, or marked, already.
        """
        if self._delayed:
            _, kept = self._delayed.pop(key, (0.0, priority))
            priority = max(priority, kept)
        if self._raise(key, priority):
            return False
        self.adds += 1
        self._depths[priority] = self._depths.get(priority, 0) + 1
        entry = _Waiting(priority, 0, now)
        if key in self._processing:
            self._again[key] = entry
        else:
            self._make_ready(key, entry)
        return True

    def add_after(self, key: K, delay_s: float, now: float, *, priority: int = 0) -> None:
        """Makes a key ready after a delay, unless it is waiting already or something makes it ready earlier."""
        self.retries += 1
        if not delay_s > 0:
            self.add(key, now, priority=priority)
            return
        if self._raise(key, priority):
            return
        due = now + delay_s
        before, kept = self._delayed.get(key, (_NEVER, priority))
        self._delayed[key] = (min(due, before), max(priority, kept))
        if due < before:
            heapq.heappush(self._timers, (due, self._next(), key))
        if len(self._timers) > 2 * len(self._delayed) + _SPARE:
            # Superseded timers leave by the top of the heap only, which one quiet key can hold for long.
            self._timers = [timer for timer in self._timers if self._delayed.get(timer[2], (None,))[0] == timer[0]]
            heapq.heapify(self._timers)

    def cancel(self, key: K) -> bool:
        """Withdraws a delayed add; returns whether there was one."""
        return self._delayed.pop(key, None) is not None

    def cancel_all(self) -> None:
        """Withdraws all delayed adds."""
        self._delayed.clear()
        self._timers.clear()

    def discard(self, key: K) -> bool:
        """Forgets every add of a key; one that is being processed stays with its worker.

        Returns:
            Whether there was an add.
        """
        entry = self._ready.pop(key, None) or self._again.pop(key, None)
        if entry is not None:
            self._leave(entry.priority)
        return self.cancel(key) or entry is not None

    def clear(self) -> None:
        """Forgets every add of all keys; those that are being processed stay with their workers."""
        self.cancel_all()
        for adds in (self._ready, self._order, self._again, self._depths):
            adds.clear()

    def next_due(self) -> float | None:
        """When the next delayed key becomes ready, or None."""
        while self._timers:
            due, _, key = self._timers[0]
            delayed = self._delayed.get(key)
            if delayed is not None and delayed[0] == due:
                return due
            heapq.heappop(self._timers)
        return None

    def wake(self, now: float) -> None:
        """Makes delayed keys whose time has come ready."""
        while (due := self.next_due()) is not None and due <= now:
            _, _, key = heapq.heappop(self._timers)
            _, priority = self._delayed.pop(key)
            self.add(key, now, priority=priority)

    def pop(self, now: float) -> Item[K] | None:
        """Hands out a ready key, or None: the best one, by priority and then by time; or the oldest, by ageing."""
        if self._timers:
            self.wake(now)
        ready = self._ready
        if not ready:
            return None
        key, oldest = next(iter(ready.items()))
        entry = oldest
        if self._overtakes < self._max_overtakes:
            key, entry = self._pop_best()
        self._overtakes = 0 if entry is oldest else self._overtakes + 1
        del ready[key]
        self._leave(entry.priority)
        self._processing[key] = (now, entry.priority)
        return Item(key, entry.priority, now - entry.since)

    def done(self, key: K, now: float) -> float:
        """Takes a key back from whoever has it; it is ready again if it was added meanwhile.

        Returns:
            Seconds since it was handed out.

        Raises:
            KeyError: nobody has the key.
        """
        since, _ = self._processing.pop(key)
        if self._again and (entry := self._again.pop(key, None)) is not None:
            self._make_ready(key, entry)
        return now - since

    def waiting_for(self, seconds: float, now: float) -> list[K]:
        """The keys that have been ready for at least so long."""
        return [key for key, entry in self._ready.items() if now - entry.since >= seconds]

    def count_from(self, now: float) -> None:
        """What is ready has been so since now, for all that is told of how long it waited. The order stays."""
        for entry in self._ready.values():
            entry.since = now

    def snapshot(self, now: float) -> QueueSnapshot[K]:
        """What is in the queue now; sorts it."""
        ready = sorted(self._ready.items(), key=lambda item: (-item[1].priority, item[1].sequence))
        delayed = sorted(self._delayed.items(), key=lambda item: item[1][0])
        return QueueSnapshot(
            tuple(QueuedKey(key, entry.priority, now - entry.since) for key, entry in ready),
            tuple(QueuedKey(key, priority, due - now) for key, (due, priority) in delayed),
            self.in_work(now),
        )

    def _raise(self, key: K, priority: int) -> bool:
        """Gives a key that is waiting already a higher priority, at the end of it; returns whether it is waiting."""
        entry = self._ready.get(key)
        ready = entry is not None
        if entry is None:
            entry = self._again.get(key) if self._again else None
            if entry is None:
                return False
        if priority > entry.priority:
            self._leave(entry.priority)
            self._depths[priority] = self._depths.get(priority, 0) + 1
            entry.priority = priority
            if ready:
                self._push(key, entry)
        return True

    def _make_ready(self, key: K, entry: _Waiting) -> None:
        self._ready[key] = entry
        self._push(key, entry)

    def _push(self, key: K, entry: _Waiting) -> None:
        entry.sequence = self._next()
        heapq.heappush(self._order, (-entry.priority, entry.sequence, key))
        if len(self._order) > 2 * len(self._ready) + _SPARE:
            # What left by ageing, was raised or discarded is still there, and may be so far down that it stays.
            self._order = [(-ready.priority, ready.sequence, key) for key, ready in self._ready.items()]
            heapq.heapify(self._order)

    def _pop_best(self) -> tuple[K, _Waiting]:
        while True:
            _, sequence, key = heapq.heappop(self._order)
            entry = self._ready.get(key)
            if entry is not None and entry.sequence == sequence:
                return key, entry

    def _leave(self, priority: int) -> None:
        left = self._depths[priority] - 1
        if left:
            self._depths[priority] = left
        else:
            del self._depths[priority]

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence
