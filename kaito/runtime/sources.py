"""Sources: what puts keys into a controller's queue: events of its own kind, of owned kinds, of watched kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import ValidationError

from kaito.informers.cache import Cache
from kaito.informers.handlers import InformerEvent, Registration
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.async_queue import AsyncQueue
from kaito.runtime.watch import AnyWatch, EventFilter, as_values
from kaito.runtime.workqueue import LOW_PRIORITY

if TYPE_CHECKING:
    from kaito.runtime.controller import Controller

R = TypeVar("R", bound=Resource)


class Sources(Generic[R]):
    """The handlers of one run of a controller.

    Args:
        controller: says what to listen to.
        cache: whose informers are listened to.
        queue: where keys go.
    """

    def __init__(self, controller: Controller[R], cache: Cache, queue: AsyncQueue[ObjectKey]) -> None:
        self._controller = controller
        self._cache = cache
        self._queue = queue
        self._registrations: list[Registration] = []

    def subscribe(self) -> None:
        """Begins to listen; what is there already comes at once, as initial events."""
        controller, cache, add = self._controller, self._cache, self._registrations.append
        add(cache.informer(controller.kind).add_handler(self._on_own))
        for kind in controller.owns:
            add(cache.informer(kind).add_handler(self._on_owned))
        for watch in controller.watches:
            add(cache.informer(watch.kind).add_handler(self._handler_of(watch)))

    def close(self) -> None:
        """Hears nothing more. Safe to call twice."""
        while self._registrations:
            self._registrations.pop().remove()

    def _on_own(self, event: InformerEvent[R]) -> None:
        if _passes(self._controller.where, event):
            self._enqueue(event, event.key)

    def _on_owned(self, event: InformerEvent[Resource]) -> None:
        owner_type = self._controller.kind.resource_type
        namespace = event.key.namespace if owner_type.namespaced else None
        for entry in (event.change.old, event.change.new):
            owner = entry.owner if entry is not None else None
            if owner is not None and (owner.group, owner.kind) == (owner_type.group, owner_type.kind):
                self._enqueue(event, ObjectKey(owner.name, namespace))

    def _handler_of(self, watch: AnyWatch) -> Callable[[InformerEvent[Resource]], None]:
        def handle(event: InformerEvent[Resource]) -> None:
            if not _passes(watch.where, event):
                return
            keys = {key for obj in _readable(event) for key in self._concerned(watch, obj)}
            for key in sorted(keys):
                self._enqueue(event, key)

        return handle

    def _concerned(self, watch: AnyWatch, obj: Resource) -> Iterable[ObjectKey]:
        if watch.map is not None:
            return watch.map(obj)
        informer = self._cache.informer(self._controller.kind)
        values = as_values(watch.by)(obj)
        found = {key for value in values for key, _ in informer.store.select([(watch.index_name, value)])}
        return [informer.object_key(key) for key in found]

    def _enqueue(self, event: InformerEvent[R] | InformerEvent[Resource], key: ObjectKey) -> None:
        self._queue.add(key, priority=LOW_PRIORITY if event.initial else 0)


def _passes(where: EventFilter[R] | None, event: InformerEvent[R]) -> bool:
    """Whether an event is to be looked at; one that the filter cannot read is, or a mended object would go unseen."""
    try:
        return where is None or where(event)
    except ValidationError:
        return True


def _readable(event: InformerEvent[R]) -> Iterable[R]:
    """The old and the new object, as far as they are there and keep to their schema; what does not is counted."""
    for entry in (event.change.old, event.change.new):
        with suppress(ValidationError):
            if entry is not None:
                yield event.informer.decode(entry)
