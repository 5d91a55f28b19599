"""EventBook: which events are written, and when: repeats become series, floods are dropped. No clock, no I/O in it."""

from __future__ import annotations

import heapq
import itertools
import re
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_SERIES = 4096
"""Series that are remembered (client-go's correlator: 4,096); the one that was silent longest is forgotten first."""
MAX_WAITING = 1000
"""New events that may wait to be written (client-go's broadcaster: 1,000)."""
SERIES_ENDS_S = 360.0
"""A series ends when it is silent for so long (client-go: 6 min); what comes later is a new event."""
REFRESH_S = 60.0
"""Seconds between two writes of one series. client-go waits half an hour, in which nobody sees that it goes on."""
SIMILAR_WINDOW_S = 600.0
MAX_SIMILAR = 10
"""So many events that differ in their note alone are written in a window; further ones are counted in one event."""
SPAM_BURST = 25
SPAM_REFILL_S = 300.0
"""New events of one object: 25 at once, then one in 5 min (client-go's spam filter). Series are free: they count."""

COMBINED = "(combined from similar events): "
_MAX_NAME = 253
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class About(NamedTuple):
    """An object, as an event refers to it; ``namespace`` is empty for cluster-scoped kinds."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""


class Said(NamedTuple):
    """What an event says; two that say the same are one event that happened twice."""

    regarding: About
    type: str
    reason: str
    action: str
    note: str
    related: About | None = None


class Drop(StrEnum):
    """Why an event is not written."""

    QUEUE_FULL = "queue_full"
    SPAM = "spam"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    STOPPED = "stopped"


@dataclass(slots=True, eq=False)
class Series:
    """An event, and how often it happened.

    Attributes:
        said: what it says.
        name: of the Event object.
        first: when it happened first.
        last: when it happened last.
        last_at: the same on the monotonic clock.
        count: how often it happened.
        told: how much of `count` the API server has; 0: the object is not made yet.
        told_at: when it was told last, on the monotonic clock.
        waits: whether it waits to be taken.
        is_taken: whether it is being written.
        is_repeated: whether a repetition of it has been written.
    """

    said: Said
    name: str
    first: datetime
    last: datetime
    last_at: float
    count: int = 1
    told: int = 0
    told_at: float = 0.0
    waits: bool = False
    is_taken: bool = False
    is_repeated: bool = False


class EventBook:
    """Turns what is said into what is written.

    The first time, an event is due at once; so is its first repetition. From then on the series is due at most once in
    `REFRESH_S`, with what has added up. All is bounded: series, waiting events, and what is known of objects.

    Args:
        max_series: see `MAX_SERIES`.
        max_waiting: see `MAX_WAITING`.
    """

    def __init__(self, *, max_series: int = MAX_SERIES, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._series: _Recent[Said, Series] = _Recent(max_series)
        self._similar: _Recent[Said, _Similar] = _Recent(max_series)
        self._buckets: _Recent[About, _Bucket] = _Recent(max_series)
        self._due: list[tuple[float, int, Series]] = []
        self._numbers = itertools.count()
        # Not written yet, or not to the end: those that are due and those that are being written.
        self._open: dict[Series, None] = {}
        self._new = 0

    def record(self, said: Said, moment: datetime, at: float) -> Drop | None:
        """Takes an event in.

        Args:
            said: what it says.
            moment: when it happened.
            at: the same on a monotonic clock, in seconds.

        Returns:
            Why it is dropped, or None.
        """
        series = self._living(said, at)
        if series is None:
            said = self._combined(said, at)
            series = self._living(said, at)
        if series is None:
            return self._begin(said, moment, at)
        series.count += 1
        series.last, series.last_at = moment, at
        self._series.touch(said)
        self._schedule(series, at)
        return None

    def due_at(self) -> float | None:
        """When something is due, on the monotonic clock; None: nothing is."""
        return self._due[0][0] if self._due else None

    def take(self, at: float) -> Series | None:
        """Hands out what is due, to be written and then given to `told` or `discard`; None: nothing is due."""
        if not self._due or self._due[0][0] > at:
            return None
        series = heapq.heappop(self._due)[2]
        series.waits, series.is_taken = False, True
        self._new -= series.told == 0
        return series

    def told(self, series: Series, count: int, at: float) -> None:
        """A series was written, with this count; what was added meanwhile is due later."""
        series.is_repeated = series.is_repeated or series.told > 0
        series.told, series.told_at, series.is_taken = count, at, False
        del self._open[series]
        if series.count > count:
            self._schedule(series, at)

    def discard(self, series: Series) -> int:
        """A series cannot be written and is forgotten; returns how many events are lost with it."""
        self._open.pop(series, None)
        if self._series.get(series.said) is series:
            self._series.pop(series.said)
        return series.count - series.told

    def unwritten(self) -> list[Series]:
        """What is not written, or not to the end; what is being written at this moment too."""
        return list(self._open)

    def _living(self, said: Said, at: float) -> Series | None:
        series = self._series.get(said)
        return series if series is not None and at - series.last_at < SERIES_ENDS_S else None

    def _combined(self, said: Said, at: float) -> Said:
        """What is said instead, when too much that is similar was said."""
        group = said._replace(note="")
        similar = self._similar.get(group)
        if similar is None or at - similar.since >= SIMILAR_WINDOW_S:
            similar = _Similar(at)
            self._similar.put(group, similar)
        if similar.count < MAX_SIMILAR:
            similar.count += 1
            return said
        similar.note = similar.note or COMBINED + said.note
        return said._replace(note=similar.note)

    def _begin(self, said: Said, moment: datetime, at: float) -> Drop | None:
        if self._new >= self._max_waiting:
            return Drop.QUEUE_FULL
        bucket = self._buckets.get(said.regarding)
        if bucket is None:
            self._buckets.put(said.regarding, bucket := _Bucket(at))
        if not bucket.take(at):
            return Drop.SPAM
        series = Series(said, self._name(said.regarding.name, moment), moment, moment, at)
        self._series.put(said, series)
        self._new += 1
        self._schedule(series, at)
        return None

    def _schedule(self, series: Series, at: float) -> None:
        if series.waits or series.is_taken:
            return
        due = max(at, series.told_at + REFRESH_S) if series.is_repeated else at
        series.waits = True
        self._open[series] = None
        heapq.heappush(self._due, (due, next(self._numbers), series))

    def _name(self, of: str, moment: datetime) -> str:
        """A name for the Event object that no other has; what an object's name cannot lend is left out."""
        suffix = f".{int(moment.timestamp() * 1e6):x}{next(self._numbers):x}"
        stem = of[: _MAX_NAME - len(suffix)].rstrip("-.")
        return (stem if _SUBDOMAIN.fullmatch(stem) else "event") + suffix


class _Similar:
    """How many events that differ in their note alone began in a window; and the note of all further ones."""

    __slots__ = ("count", "note", "since")

    def __init__(self, at: float) -> None:
        self.since = at
        self.count = 0
        self.note = ""


class _Bucket:
    """A token bucket: `SPAM_BURST` at once, then one in `SPAM_REFILL_S`."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, at: float) -> None:
        self._tokens = float(SPAM_BURST)
        self._at = at

    def take(self, at: float) -> bool:
        self._tokens = min(SPAM_BURST, self._tokens + (at - self._at) / SPAM_REFILL_S)
        self._at = at
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _Recent(Generic[K, V]):
    """A map of bounded size: what was put or touched longest ago goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        return self._items.get(key)

    def put(self, key: K, value: V) -> None:
        self._items[key] = value
        self._items.move_to_end(key)
        if len(self._items) > self._limit:
            self._items.popitem(last=False)

    def touch(self, key: K) -> None:
        self._items.move_to_end(key)

    def pop(self, key: K) -> None:
        del self._items[key]
