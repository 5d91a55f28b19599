"""Informer: a reflector, its store, and everyone who wants to hear of changes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from kaito.client.transport import Transport
from kaito.informers.decoded import DecodedObjects
from kaito.informers.list_watch import State
from kaito.informers.reflector import SLICE, Reflector
from kaito.informers.store import Change, Entry, Store
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)


class InformerEvent(NamedTuple, Generic[R]):
    """A change as handlers see it.

    Attributes:
        informer: where it comes from; decodes entries on demand.
        change: what happened.
        initial: True for what was there when the informer (or this handler) began, and for what a relist found.
    """

    informer: Informer[R]
    change: Change
    initial: bool

    @property
    def key(self) -> ObjectKey:
        """The object's key."""
        return self.informer.object_key(self.change.key)

    @property
    def old(self) -> R | None:
        """The object before, decoded now."""
        return None if self.change.old is None else self.informer.decode(self.change.old)

    @property
    def new(self) -> R | None:
        """The object after, decoded now."""
        return None if self.change.new is None else self.informer.decode(self.change.new)

    @property
    def entry(self) -> Entry:
        """The newest entry that there is: the new one, or the last one of a deleted object."""
        entry = self.change.new or self.change.old
        assert entry is not None
        return entry


EventHandler = Callable[[InformerEvent[R]], None]
"""Told of each change, in order; must be quick and must not block (put a key into a queue)."""


class Informer(Generic[R]):
    """Keeps the objects of one kind (in one scope) and tells handlers what changes.

    Made by `Cache.informer`; `run` is the cache's to call.

    Args:
        kind: the class of the objects.
        transport: how requests travel.
        namespace: one namespace, or None for all.
        rng: source of jitter.
    """

    def __init__(
        self,
        kind: type[R],
        transport: Transport,
        *,
        namespace: str | None = None,
        rng: random.Random | None = None,
        decoded: DecodedObjects | None = None,
    ) -> None:
        # Schemas are built on first use, which takes some 20 ms: now, not at the first read while the loop is busy.
        kind.model_rebuild()
        self.kind = kind
        self.namespace = namespace
        self.store = Store()
        self.state = State()
        self.last_progress_at: float | None = None
        self.handler_errors = 0
        self._decoded = decoded or DecodedObjects()
        self._handlers: list[EventHandler[R]] = []
        self._synced = asyncio.Event()
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._reflector = Reflector(transport, kind.resource_type, self.store, self, namespace=namespace, rng=rng)

    def __repr__(self) -> str:
        scope = f" in {self.namespace}" if self.namespace else ""
        return f"Informer({self.kind.resource_type.group_kind}{scope}, {len(self.store)} objects)"

    @property
    def synced(self) -> bool:
        """Whether the first list is in the store and every handler has been told of it."""
        return self._synced.is_set()

    @property
    def decode_errors(self) -> int:
        """How many times an object was read that breaks the class's schema."""
        return self._decoded.failures[self.kind]

    async def run(self) -> None:
        """Lists and watches until cancelled."""
        await self._reflector.run()

    async def wait_synced(self) -> None:
        """Waits, without a limit, until `synced`."""
        await self._synced.wait()

    def add_handler(self, handler: EventHandler[R]) -> Callable[[], None]:
        """Adds a handler; what is stored already it is told of at once, as initial additions, without gap or duplicate.

        Returns:
            A function that removes the handler.
        """
        for key, entry in self.store.items():
            self._tell(handler, InformerEvent(self, Change("added", key, None, entry), True))
        self._handlers.append(handler)
        return lambda: self._handlers.remove(handler)

    def object_key(self, key: str) -> ObjectKey:
        """The ObjectKey for a store key."""
        namespace, _, name = key.rpartition("/")
        return ObjectKey(name, namespace or None)

    def decode(self, entry: Entry) -> R:
        """Makes the object of an entry; recently decoded ones are shared, which is safe since they are frozen.

        Raises:
            pydantic.ValidationError: the object breaks the class's schema; only this one is affected.
        """
        return self._decoded.decode(self.kind, entry)

    async def wait_until(self, reached: Callable[[], bool]) -> None:
        """Waits, without a limit, until a condition on the store holds; it is looked at whenever the store moves."""
        while not reached():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            item = (reached, waiter)
            self._waiters.append(item)
            try:
                await waiter
            finally:
                if item in self._waiters:
                    self._waiters.remove(item)

    # What the reflector tells.

    def on_changes(self, changes: tuple[Change, ...]) -> None:
        """See `reflector.Observer`."""
        self._tell_all(tuple(self._handlers), changes, initial=False)

    async def on_replaced(self, changes: Iterator[Change]) -> None:
        """See `reflector.Observer`."""
        # Whoever comes between two slices is told by `add_handler` of all that is in the store already.
        present = tuple(self._handlers)
        while batch := tuple(islice(changes, SLICE)):
            self._tell_all(tuple(handler for handler in present if handler in self._handlers), batch, initial=True)
            await asyncio.sleep(0)
        self.state = replace(self.state, error=None, dormant=False)
        self._synced.set()
        self.on_progress()

    def on_progress(self) -> None:
        """See `reflector.Observer`."""
        self.last_progress_at = asyncio.get_running_loop().time()
        if not self._waiters:
            return
        for reached, waiter in self._waiters:
            if not waiter.done() and reached():
                waiter.set_result(None)

    def on_state(self, state: State) -> None:
        """See `reflector.Observer`."""
        self.state = state

    def _tell_all(self, handlers: tuple[EventHandler[R], ...], changes: tuple[Change, ...], *, initial: bool) -> None:
        for change in changes:
            event = InformerEvent(self, change, initial)
            for handler in handlers:
                self._tell(handler, event)

    def _tell(self, handler: EventHandler[R], event: InformerEvent[R]) -> None:
        try:
            handler(event)
        except Exception:
            # One handler's fault must not cost the others an event, nor the informer its life.
            self.handler_errors += 1
            log.exception("event handler failed", extra={"kind": self.kind.__name__, "key": event.change.key})
