"""Sources: what puts keys into a controller's queue: its own kind, owned and watched ones, and channels."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import ValidationError

from kaito.informers.cache import Cache
from kaito.informers.entry import Entry
from kaito.informers.handlers import InformerEvent, Registration
from kaito.informers.informer import Informer
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.async_queue import AsyncQueue, clock_of
from kaito.runtime.channel import AnyChannel, Feed, identity_of
from kaito.runtime.error_policy import is_power_of_two
from kaito.runtime.mapping import Letter, Mapper
from kaito.runtime.metrics import ControllerMetrics
from kaito.runtime.watch import AnyOwned, AnyWatch, EventFilter, as_values
from kaito.runtime.workqueue import LOW_PRIORITY

if TYPE_CHECKING:
    from kaito.runtime.controller import Controller

R = TypeVar("R", bound=Resource)
W = TypeVar("W", bound=Resource)

log = logging.getLogger(__name__)

# Keys that `enqueue_all` adds between two turns of the loop: some 1 ms.
ENQUEUE_SLICE = 500


class Sources(Generic[R]):
    """The handlers of one run of a controller.

    Args:
        controller: says what to listen to.
        cache: whose informers are listened to.
        queue: where keys go.
        dirty: takes down when the first live event came that made a key dirty.
        metrics: counts what filters hold back and maps that fail.
        rng: source of jitter.
    """

    def __init__(
        self,
        controller: Controller[R],
        cache: Cache,
        queue: AsyncQueue[ObjectKey],
        dirty: dict[ObjectKey, float],
        metrics: ControllerMetrics,
        rng: random.Random,
    ) -> None:
        self._controller = controller
        self._cache = cache
        self._queue = queue
        self._dirty = dirty
        self._metrics = metrics
        self._rng = rng
        self._registrations: list[Registration] = []
        self._mappers: list[Mapper[Entry] | Mapper[object]] = []
        self._feeds: list[Feed[object]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._now = clock_of(asyncio.get_running_loop())

    def subscribe(self) -> None:
        """Begins to listen; what is there already comes at once, as initial events."""
        controller, cache, add = self._controller, self._cache, self._registrations.append
        add(cache.informer(controller.kind).add_handler(self._own_handler()))
        for owned in controller.owned:
            add(cache.informer(owned.kind).add_handler(self._owned_handler(owned)))
        for watch in controller.watches:
            add(cache.informer(watch.kind).add_handler(self._handler_of(watch)))
        for channel in controller.channels:
            self._read(channel)

    async def aclose(self) -> None:
        """Hears nothing more; maps in progress are cancelled. Safe to call twice."""
        while self._registrations:
            self._registrations.pop().remove()
        while self._feeds:
            self._feeds.pop().close()
        while self._mappers:
            await self._mappers.pop().aclose()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def enqueue_all(self, priority: int) -> None:
        """Adds the key of each cached object of the controller's kind."""
        informer = self._cache.informer(self._controller.kind)
        for number, (key, _) in enumerate(informer.store.items(), 1):
            self._queue.add(informer.object_key(key), priority=priority)
            if number % ENQUEUE_SLICE == 0:
                await asyncio.sleep(0)

    def _own_handler(self) -> Callable[[InformerEvent[R]], None]:
        passes = self._filter(self._controller.kind, self._controller.where)

        def handle(event: InformerEvent[R]) -> None:
            if passes is None or passes(event):
                self._enqueue(event.key, event.initial)

        return handle

    def _owned_handler(self, owned: AnyOwned) -> Callable[[InformerEvent[Resource]], None]:
        passes = self._filter(owned.kind, owned.where)

        def handle(event: InformerEvent[Resource]) -> None:
            old, new = event.change.old, event.change.new
            # Another owner is news to both, whatever else of the object has changed.
            moved = old is not None and new is not None and old.owner != new.owner
            if passes is None or moved or passes(event):
                self._on_owned(event)

        return handle

    def _on_owned(self, event: InformerEvent[Resource]) -> None:
        owner_type = self._controller.kind.resource_type
        namespace = event.key.namespace if owner_type.namespaced else None
        for entry in (event.change.old, event.change.new):
            owner = entry.owner if entry is not None else None
            if owner is not None and (owner.group, owner.kind) == (owner_type.group, owner_type.kind):
                self._enqueue(ObjectKey(owner.name, namespace), event.initial)

    def _handler_of(self, watch: AnyWatch) -> Callable[[InformerEvent[Resource]], None]:
        kind = watch.kind
        call = watch.map if watch.map is not None else partial(self._referring, watch)
        name = f"controller {self._controller.name}: Watch({kind.__name__})"
        read = partial(_readable, self._cache.informer(kind))
        errors = self._metrics.map_errors(_label(kind))
        mapper: Mapper[Entry] = Mapper(name, call, read, self._add_mapped, self._add_all, errors, self._rng)
        self._mappers.append(mapper)
        passes = self._filter(kind, watch.where)

        def handle(event: InformerEvent[Resource]) -> None:
            if passes is None or passes(event):
                change = event.change
                mapper.offer(change.key, Letter(change.old, change.new, event.initial, self._now()))

        return handle

    def _referring(self, watch: AnyWatch, obj: Resource) -> Iterable[ObjectKey]:
        informer = self._cache.informer(self._controller.kind)
        values = as_values(watch.by)(obj)
        found = {key for value in values for key, _ in informer.store.select([(watch.index_name, value)])}
        return [informer.object_key(key) for key in found]

    def _read(self, channel: AnyChannel) -> None:
        name = f"controller {self._controller.name}: Channel"
        errors = self._metrics.map_errors("channel")
        mapper: Mapper[object] = Mapper(
            name, channel.map, lambda event: event, self._add_mapped, self._add_all, errors, self._rng
        )
        self._mappers.append(mapper)
        self._feeds.append(feed := channel.open())

        async def read() -> None:
            while True:
                event = await feed.get()
                mapper.offer(identity_of(event), Letter(None, event, False, self._now()))
                await mapper.wait_room(channel.capacity)

        self._start(read(), name)

    def _add_all(self) -> None:
        self._start(self.enqueue_all(LOW_PRIORITY), f"controller {self._controller.name}: enqueue all")

    def _start(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _add_mapped(self, key: ObjectKey, letter: Letter[Entry] | Letter[object]) -> None:
        if not letter.initial:
            self._dirty.setdefault(key, letter.since)
        self._queue.add(key, priority=LOW_PRIORITY if letter.initial else 0)

    def _enqueue(self, key: ObjectKey, initial: bool) -> None:
        if initial:
            self._queue.add(key, priority=LOW_PRIORITY)
        else:
            self._dirty.setdefault(key, self._now())
            self._queue.add(key)

    def _filter(self, kind: type[W], where: EventFilter[W] | None) -> EventFilter[W] | None:
        """Makes a filter count what it holds back, and let through what it cannot judge, lest that be lost."""
        held_back = self._metrics.filtered(_label(kind))
        if where is None:
            return None
        faults = 0

        def passes(event: InformerEvent[W]) -> bool:
            nonlocal faults
            try:
                if where(event):
                    return True
            except ValidationError:
                # Or an object that is mended, or broken, would go unseen.
                return True
            except Exception as error:
                faults += 1
                if is_power_of_two(faults):
                    fields = {"controller": self._controller.name, "kind": _label(kind), "times": faults}
                    log.error("filter failed, the event passes", extra=fields, exc_info=error)
                return True
            held_back.inc()
            return False

        return passes


def _label(kind: type[Resource]) -> str:
    return str(kind.resource_type.group_kind)


def _readable(informer: Informer[Resource], entry: Entry) -> Resource | None:
    """The object of an entry, if it keeps to its schema; one that does not is counted, and concerns nobody."""
    try:
        return informer.decode(entry)
    except ValidationError:
        return None
