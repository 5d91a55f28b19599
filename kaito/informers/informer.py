"""Informer: the lists and watches of one kind, their objects, and everyone who wants to hear of changes."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from kaito.client.transport import Transport
from kaito.informers.decoded import DecodedObjects
from kaito.informers.entry import Entry
from kaito.informers.handlers import EventHandler, InformerEvent, Registration, SlowEventHandler
from kaito.informers.list_watch import State
from kaito.informers.mailbox import Mailbox
from kaito.informers.options import InformerOptions, names_of
from kaito.informers.part import Part
from kaito.informers.partitions import PartitionedStore
from kaito.informers.store import Change, StoreReader
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)


class Informer(Generic[R]):
    """Keeps the objects of one kind (in one scope) and tells handlers what changes.

    Made by `Cache.informer`; `run` is the cache's to call. It can be run again after it was cancelled: it lists anew,
    and handlers hear what changed meanwhile.

    Args:
        kind: the class of the objects.
        transport: how requests travel.
        options: which objects, and what of them.
        rng: source of jitter.
        decoded: memory of decoded objects; default one of its own.

    Attributes:
        store: the objects, to be read.
        decode_errors: how often an object was read that breaks the class's schema.

    Raises:
        ValueError: the options make no sense for the kind.
    """

    def __init__(
        self,
        kind: type[R],
        transport: Transport,
        options: InformerOptions = InformerOptions(),
        *,
        rng: random.Random | None = None,
        decoded: DecodedObjects | None = None,
    ) -> None:
        options.check(kind)
        # Schemas are built on first use, which takes some 20 ms: now, not at the first read while the loop is busy.
        kind.model_rebuild()
        self.kind = kind
        self.options = options
        self._transport = transport
        self._rng = rng
        # What is kept of an object depends on the options, so only whole objects are shared with other informers.
        shared = None if options.partial else decoded
        self._decoded = shared or DecodedObjects(partial=options.partial)
        self._handlers: list[EventHandler[R]] = []
        self._mailboxes: dict[Mailbox, asyncio.Task[None] | None] = {}
        self._handler_errors = 0
        self.decode_errors = 0
        self._synced = asyncio.Event()
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._tasks: asyncio.TaskGroup | None = None
        self._parts: dict[str | None, Part] = {}
        self.store: StoreReader
        if options.namespaces is None:
            self.store = self._add_part(None).store
        else:
            self._partitions = self.store = PartitionedStore()
            for namespace in sorted(options.namespaces):
                self._partitions.add(namespace, self._add_part(namespace).store)
        self._settle()

    def __repr__(self) -> str:
        scope = f" in {', '.join(sorted(map(str, self._parts)))}" if self.options.namespaces is not None else ""
        return f"Informer({self.kind.resource_type.group_kind}{scope}, {len(self.store)} objects)"

    @property
    def synced(self) -> bool:
        """Whether a first list (of each namespace) is in the store, and every quick handler has been told of it."""
        return self._synced.is_set()

    @property
    def state(self) -> State:
        """What is being done; of several namespaces, the first one's that has an error."""
        states = [part.state for part in self._parts.values()]
        return next((state for state in states if state.error is not None), states[0] if states else State())

    @property
    def last_progress_at(self) -> float | None:
        """When something last came, by the loop's clock; of several namespaces, the one that is behind most."""
        times = [part.last_progress_at for part in self._parts.values()]
        return None if not times or None in times else min(time for time in times if time is not None)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its lists and watches: one, or one for each namespace."""
        return tuple(self._parts.values())

    @property
    def namespaces(self) -> frozenset[str] | None:
        """The namespaces of the moment; None: all."""
        return None if self.options.namespaces is None else frozenset(filter(None, self._parts))

    @property
    def handler_errors(self) -> int:
        """How many times a handler raised."""
        return self._handler_errors + sum(mailbox.errors for mailbox in self._mailboxes)

    @property
    def backlog(self) -> int:
        """How many objects slow handlers have yet to hear of, all together."""
        return sum(map(len, self._mailboxes))

    def covers(self, namespace: str | None) -> bool:
        """Whether objects of a namespace (None: any) can be here."""
        return namespace is None or self.options.namespaces is None or namespace in self._parts

    async def run(self) -> None:
        """Lists and watches until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                for part in self._parts.values():
                    self._start(tasks, part)
                for mailbox in self._mailboxes:
                    self._mailboxes[mailbox] = tasks.create_task(mailbox.run())
                await asyncio.get_running_loop().create_future()
            finally:
                self._tasks = None

    async def wait_synced(self) -> None:
        """Waits, without a limit, until `synced`."""
        await self._synced.wait()

    async def relist(self) -> None:
        """Lists anew at once and waits, without a limit, until store and quick handlers have it.

        What others wrote before the call is in the store afterwards. Reads meanwhile see the old contents.
        """
        await self.wait_until(self.begin_relist())

    def begin_relist(self) -> Callable[[], bool]:
        """Lists anew at once; returns what tells whether that is in. See `relist`."""
        due = [(part, part.reflector.begun + 1) for part in self._parts.values()]
        for part, _ in due:
            part.list_anew()
        return lambda: all(part.listed >= number or not self._is_current(part) for part, number in due)

    async def set_namespaces(self, namespaces: Iterable[str]) -> None:
        """Changes which namespaces are held, while it runs or not.

        It is not synced again until the new ones are. Handlers are told of the objects of those that went as deleted.
        All who share the informer share the change. Cancelled, it has been made all the same; only the last requests of
        those that went may not have ended.

        Raises:
            ValueError: it holds all namespaces.
            TypeError: the namespaces are one text.
        """
        wanted = names_of(namespaces) or frozenset()
        if self.options.namespaces is None:
            raise ValueError(
                f"{self!r} holds all namespaces: make it with InformerOptions(namespaces=…) to change them"
            )
        gone = [self._drop_part(namespace) for namespace in sorted(filter(None, self._parts.keys() - wanted))]
        for namespace in sorted(wanted - self._parts.keys()):
            part = self._add_part(namespace)
            self._partitions.add(namespace, part.store)
            if self._tasks is not None:
                self._start(self._tasks, part)
        self._settle()
        self.on_progress()
        for part in gone:
            await part.stop()

    def add_handler(self, handler: EventHandler[R]) -> Registration:
        """Adds a handler; it is told at once of what is stored, as initial additions, without gap or duplicate.

        Raises:
            TypeError: it is a coroutine function, which nobody would await.
        """
        if inspect.iscoroutinefunction(handler):
            raise TypeError(
                f"{self!r}: {handler!r} is a coroutine function: add_handler cannot await it, subscribe can"
            )
        for key, entry in self.store.items():
            self._tell(handler, InformerEvent(self, Change("added", key, None, entry), True))
        self._handlers.append(handler)

        def remove() -> None:
            if handler in self._handlers:
                self._handlers.remove(handler)

        return Registration(remove, None, self)

    def subscribe(self, handler: SlowEventHandler[R]) -> Registration:
        """Adds a handler that may take its time: it holds up neither the store nor other handlers.

        It runs while the informer does, one call at a time. Changes of an object that it has not heard of yet are put
        together, so that what waits for it is bounded by the number of objects.
        """

        async def deliver(change: Change, initial: bool) -> None:
            answer = handler(InformerEvent(self, change, initial))
            if not inspect.isawaitable(answer):
                raise TypeError(f"{handler!r} is no coroutine function; add_handler takes quick functions")
            await answer

        mailbox = Mailbox(deliver)
        inner = self.add_handler(lambda event: mailbox.put((event.change,), initial=event.initial))
        if self.synced:
            mailbox.all_is_listed()
        self._mailboxes[mailbox] = self._tasks.create_task(mailbox.run()) if self._tasks is not None else None

        def remove() -> None:
            inner.remove()
            task = self._mailboxes.pop(mailbox, None)
            if task is not None:
                task.cancel()

        return Registration(remove, mailbox, self)

    def object_key(self, key: str) -> ObjectKey:
        """The ObjectKey for a store key."""
        namespace, _, name = key.rpartition("/")
        return ObjectKey(name, namespace or None)

    def decode(self, entry: Entry) -> R:
        """Makes the object of an entry; recently decoded ones are shared, which is safe since they are frozen.

        Raises:
            pydantic.ValidationError: the object breaks the class's schema; only this one is affected.
        """
        try:
            return self._decoded.decode(self.kind, entry)
        except ValueError:
            self.decode_errors += 1
            raise

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

    # What the parts tell.

    def on_changes(self, part: Part, changes: tuple[Change, ...], *, initial: bool) -> None:
        """See `part.PartObserver`. A part that was taken out has nothing to say any more while it ends."""
        if self._is_current(part):
            self._tell_all(tuple(self._handlers), changes, initial=initial)

    def on_replacing(self, part: Part) -> tuple[EventHandler[R], ...]:
        """See `part.PartObserver`. Whoever comes later is told by `add_handler` of all that is in the store by then."""
        return tuple(self._handlers)

    def on_listed_changes(self, part: Part, changes: tuple[Change, ...], present: object) -> None:
        """See `part.PartObserver`."""
        assert isinstance(present, tuple)
        if not self._is_current(part):
            return
        self._tell_all([handler for handler in present if handler in self._handlers], changes, initial=True)

    def on_progress(self) -> None:
        """See `part.PartObserver`."""
        if not self._synced.is_set():
            self._settle()
        for reached, waiter in self._waiters:
            if not waiter.done() and reached():
                waiter.set_result(None)

    def synced_in(self, namespace: str | None) -> bool:
        """Whether what there is of one namespace (None: of all) is in the store."""
        part = self._parts.get(namespace) if self.options.namespaces is not None and namespace else None
        return self.synced if part is None else part.synced

    def is_unreadable(self, key: str) -> bool:
        """Whether the server has an object of a store key that is none: it is not here, or not in its newest state."""
        return any(key in part.reflector.known_unreadable for part in self._parts.values())

    def close(self) -> None:
        """Lets those go who wait for it: it will not be run any more."""
        self._parts.clear()
        self._synced.set()
        self.on_progress()

    def _is_current(self, part: Part) -> bool:
        return self._parts.get(part.namespace) is part

    def _drop_part(self, namespace: str) -> Part:
        """Takes a part out, in one step; stopping it is the caller's."""
        part = self._parts.pop(namespace)
        self._partitions.remove(namespace)
        for key, entry in part.store.items():
            self._tell_all(tuple(self._handlers), (Change("deleted", key, entry, None),), initial=False)
        return part

    def _add_part(self, namespace: str | None) -> Part:
        part = self._parts[namespace] = Part(self.kind, self._transport, namespace, self.options, self, self._rng)
        self._synced.clear()
        return part

    def _start(self, tasks: asyncio.TaskGroup, part: Part) -> None:
        scope = f" in {part.namespace}" if part.namespace is not None else ""
        part.start(tasks, f"informer {self.kind.resource_type.group_kind}{scope}")

    def _settle(self) -> None:
        """Says that it is synced, once all parts are."""
        if not all(part.synced for part in self._parts.values()):
            return
        for mailbox in self._mailboxes:
            mailbox.all_is_listed()
        self._synced.set()

    def _tell_all(self, handlers: Iterable[EventHandler[R]], changes: tuple[Change, ...], *, initial: bool) -> None:
        for change in changes:
            event = InformerEvent(self, change, initial)
            for handler in handlers:
                self._tell(handler, event)

    def _tell(self, handler: EventHandler[R], event: InformerEvent[R]) -> None:
        try:
            handler(event)
        except Exception:
            # One handler's fault must not cost the others an event, nor the informer its life.
            self._handler_errors += 1
            log.exception("event handler failed", extra={"kind": self.kind.__name__, "key": str(event.key)})
