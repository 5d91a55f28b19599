"""Channel: events from outside the cluster, as a source of a controller's work."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeAlias, TypeVar

from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.clocks import running_loop
from kaito.runtime.mapping import KeyMap

E = TypeVar("E")


class Feed(Generic[E]):
    """What one running controller has yet to take from a channel.

    Args:
        capacity: how many events it holds.
        close: takes it away from its channel.
    """

    def __init__(self, capacity: int, close: Callable[[Feed[E]], None]) -> None:
        self._capacity = capacity
        self._close = close
        self._events: deque[E] = deque()
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether an event has to wait."""
        return len(self._events) >= self._capacity

    async def put(self, event: E) -> None:
        """Waits for room, and adds an event; after `close` it does nothing."""
        while self.is_full and not self._closed:
            await self._wait()
        if not self._closed:
            self._events.append(event)
            self._tell()

    async def get(self) -> E:
        """Waits for an event."""
        while not self._events:
            await self._wait()
        event = self._events.popleft()
        self._tell()
        return event

    def close(self) -> None:
        """Takes no events any more; those who wait for room are let go."""
        self._closed = True
        self._close(self)
        self._tell()

    async def _wait(self) -> None:
        await self._changed.wait()

    def _tell(self) -> None:
        # Wakes those who wait now, and only them.
        self._changed.set()
        self._changed = asyncio.Event()


class Channel(Generic[E]):
    """Carries events from elsewhere (a webhook, a message bus, another API) to controllers: ``channels=[channel]``.

    Without a map an event is the key of an object of the controller's kind, or such an object. Several controllers may
    use one channel: each running one gets each event. A controller that does not run gets none: when it starts, it
    begins with all its objects.

    Args:
        map: from an event to the keys it concerns, as `Watch.map`: it may be async, and is retried when it fails.
        capacity: how many events each controller holds that wait for its map; when it is full, who puts has to wait.

    Raises:
        ValueError: the capacity is less than 1.
    """

    def __init__(self, map: Callable[[E], Any] | None = None, *, capacity: int = 1024) -> None:
        if capacity < 1:
            raise ValueError(f"Channel: capacity is {capacity}; at least 1 is needed")
        self.map: KeyMap = map if map is not None else _own_key
        self.capacity = capacity
        self._feeds: list[Feed[E]] = []
        self._opened = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> Feed[E]:
        """Makes the feed of one more controller; its `close` takes it away again."""
        self._loop = asyncio.get_running_loop()
        feed: Feed[E] = Feed(self.capacity, self._closed)
        self._feeds.append(feed)
        self._opened.set()
        return feed

    async def put(self, event: E) -> None:
        """Gives an event to each controller; waits while one of them is full, or while none runs.

        Cancelled, it may have been given to some of them.
        """
        while not self._feeds:
            self._opened.clear()
            await self._opened.wait()
        for feed in tuple(self._feeds):
            await feed.put(event)

    def put_from_thread(self, event: E, *, timeout_s: float | None = None) -> None:
        """Like `put`, for any thread but that of the event loop; blocks until the event is taken.

        Raises:
            RuntimeError: no controller that uses the channel has been started, or this is the event loop's thread.
            TimeoutError: it was not taken in time.
        """
        loop = self._loop
        if loop is None or loop.is_closed():
            raise RuntimeError("Channel.put_from_thread: no controller that uses the channel runs; start one first")
        if running_loop() is loop:
            raise RuntimeError("Channel.put_from_thread: called in the event loop's own thread; await put() there")
        future = asyncio.run_coroutine_threadsafe(self.put(event), loop)
        try:
            future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    def _closed(self, feed: Feed[E]) -> None:
        if feed in self._feeds:
            self._feeds.remove(feed)


AnyChannel: TypeAlias = Channel[Any]
"""A channel of whatever events: what a controller's list of channels holds."""


def identity_of(event: object) -> Hashable:
    """What equal events have in common, of which one is enough; objects are told apart, lest a state be missed."""
    if isinstance(event, Resource):
        return id(event)
    try:
        hash(event)
    except TypeError:
        return id(event)
    return event


def _own_key(event: object) -> list[ObjectKey]:
    if isinstance(event, ObjectKey):
        return [event]
    if isinstance(event, Resource):
        return [event.key]
    raise TypeError(f"Channel: {event!r} is neither an ObjectKey nor an object; give the channel a map")
