"""Cache: the informers of a process, read as one; a read never goes back behind this process's own writes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar, cast

from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from kaito.client import requests, wire
from kaito.client.client import Client
from kaito.client.errors import CacheNotSynced, NotFound
from kaito.client.results import ObjectList, Unreadable
from kaito.informers.decoded import DecodedObjects
from kaito.informers.floors import Floor, KindFloors, WriteFloors
from kaito.informers.informer import Informer, InformerEvent
from kaito.informers.metrics import InformerMetrics
from kaito.informers.reflector import SLICE
from kaito.informers.store import Entry, store_key
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.kube.selectors import parse_selector, selector_predicate

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)

READ_WAIT_S = 2.0


class Cache:
    """Reads of declared kinds, from memory. Implements `kaito.client.Reader`.

    Args:
        live: a client that reads from the API server; its middleware must contain `floors`.
        floors: raised by the writes of this process.
        registry: where ``controller_informer_*`` metrics go; None: nowhere.
        rng: source of jitter.
        read_wait_s: how long a read waits for an own write to come back before it raises `CacheNotSynced`.
    """

    def __init__(
        self,
        live: Client,
        floors: WriteFloors,
        *,
        registry: CollectorRegistry | None = None,
        rng: random.Random | None = None,
        read_wait_s: float = READ_WAIT_S,
    ) -> None:
        self._live = live
        self._write_floors = floors
        self._rng = rng or random.Random()
        self._read_wait_s = read_wait_s
        self._informers: dict[type[Resource], Informer[Resource]] = {}
        self._floors: dict[type[Resource], KindFloors] = {}
        self._decoded = DecodedObjects()
        self._tasks: asyncio.TaskGroup | None = None
        if registry is not None:
            registry.register(InformerMetrics(self.informers))

    def informers(self) -> list[Informer[Resource]]:
        """All informers, in the order in which they were declared."""
        return list(self._informers.values())

    def informer(self, kind: type[R]) -> Informer[R]:
        """Declares a kind to be cached and returns its one informer; starts it if the cache runs already."""
        if kind not in self._informers:
            made = Informer(kind, self._live.transport, rng=self._rng, decoded=self._decoded)
            self._informers[kind] = cast("Informer[Resource]", made)
            floors = self._floors[kind] = self._write_floors.of(kind.resource_type, made.store)
            # Objects that nobody reads must not leave their floors behind.
            made.add_handler(partial(_drop_reached, floors))
            if self._tasks is not None:
                self._start(self._tasks, made)
        return cast("Informer[R]", self._informers[kind])

    def add_index(self, kind: type[R], name: str, values: Callable[[R], Iterable[str]]) -> None:
        """Indexes a kind's objects by what a function reads in them; at any time.

        Args:
            kind: the class; declared by this, if it was not.
            name: for field selectors and `by_index`; by convention the field's path.
            values: from an object to its values. An object that does not decode, or for which this raises, has none.
        """
        informer = self.informer(kind)

        def index(entry: Entry) -> Iterable[str]:
            try:
                return tuple(values(informer.decode(entry)))
            except ValidationError:
                return ()
            except Exception:
                # It runs while the store changes: raised there, it would end the informer and all that stands on it.
                log.exception("index function failed", extra={"kind": kind.__name__, "index": name, "uid": entry.uid})
                return ()

        informer.store.add_index(name, index)

    async def run(self) -> None:
        """Runs all informers until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                for informer in self._informers.values():
                    self._start(tasks, informer)
                await asyncio.get_running_loop().create_future()
            finally:
                self._tasks = None

    async def wait_synced(self) -> None:
        """Waits, without a limit, until every declared kind is synced."""
        for informer in self.informers():
            await informer.wait_synced()

    def serves(self, kind: type[Resource], namespace: str | None) -> bool:
        """Whether a kind is read here: whether it was declared."""
        return kind in self._informers

    async def get(self, kind: type[R], key: ObjectKey) -> R:
        """Reads one object, waiting (bounded) for an own write of it to have come back.

        Raises:
            NotFound: there is none of that name.
            CacheNotSynced: the kind is not synced yet, or the own write has not come back in time.
            ValueError: the kind is namespaced and the key has no namespace.
            pydantic.ValidationError: the stored object breaks the class's schema.
        """
        if kind.resource_type.namespaced and not key.namespace:
            raise ValueError(f"get {kind.resource_type.plural} {key}: {kind.__name__} is namespaced; name a namespace")
        informer = self._synced_informer(kind)
        name = store_key(key.name, key.namespace if kind.resource_type.namespaced else None)
        floors = self._floors[kind]
        if floors:
            await self._catch_up(informer, floors, [] if floors.reached(name) else [name])
        entry = informer.store.get(name)
        if entry is None:
            raise NotFound(f"get {kind.resource_type.plural} {key}: not found (cache)", status=404, reason="NotFound")
        return informer.decode(entry)

    async def list(
        self, kind: type[R], *, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> ObjectList[R]:
        """Reads all that match, sorted by key, waiting (bounded) for own writes of the kind until this call.

        An object that does not decode harms nobody but itself: it is counted, and named in `ObjectList.unreadable`.

        Args:
            kind: the class.
            namespace: None for all.
            labels: label selector.
            fields: ``INDEX=VALUE`` terms; each needs an index of that name.

        Raises:
            CacheNotSynced: as for `get`.
            ValueError: a field term has no index.
        """
        informer = self._synced_informer(kind)
        namespace = namespace if kind.resource_type.namespaced else None
        floors = self._floors[kind]
        if floors:
            await self._catch_up(informer, floors, floors.pending(namespace))
        matches = selector_predicate(parse_selector(labels)) if labels else None
        found = [
            (key, entry)
            for key, entry in _candidates(informer, namespace, fields)
            if matches is None or matches(dict(entry.labels))
        ]
        return await _decoded(informer, found, str(informer.store.resource_version))

    async def by_index(self, kind: type[R], name: str, value: str) -> ObjectList[R]:
        """Reads the objects that an index has under a value. Raises as `list` does."""
        return await self.list(kind, fields=f"{name}={value}")

    def _start(self, tasks: asyncio.TaskGroup, informer: Informer[R]) -> None:
        tasks.create_task(informer.run(), name=f"informer {informer.kind.resource_type.group_kind}")

    def _synced_informer(self, kind: type[R]) -> Informer[R]:
        informer = self.informer(kind)
        if not informer.synced:
            why = f": {informer.state.error}" if informer.state.error else ""
            raise CacheNotSynced(f"{kind.resource_type.group_kind} is not synced yet{why}")
        return informer

    async def _catch_up(self, informer: Informer[R], floors: KindFloors, names: Sequence[str]) -> None:
        """Waits until the floors that these keys have now are reached; later ones do not prolong the wait."""
        awaited = {name: floor for name in names if (floor := floors.get(name)) is not None}
        name = ""
        try:
            async with asyncio.timeout(self._read_wait_s):
                for name, floor in awaited.items():
                    known = await self._resolve(informer, floors, name, floor) if floor.unknown else floor
                    if known is not None:
                        await informer.wait_until(partial(floors.meets, name, known))
        except TimeoutError:
            # Should the server have lost the write (an etcd restored from a backup), waiting again would never end.
            floors.doubt(name)
            raise CacheNotSynced(
                f"{informer.kind.resource_type.group_kind} {name}: an own write has not come back "
                f"through the watch within {self._read_wait_s:g} s"
            ) from None

    async def _resolve(self, informer: Informer[R], floors: KindFloors, name: str, floor: Floor) -> Floor | None:
        """Finds out by a live read what became of a write whose answer was lost; None: the store need not move."""
        request = requests.on_object("GET", "get", informer.kind.resource_type, informer.object_key(name))
        try:
            response = await self._live.request(request)
        except NotFound:
            stale = informer.store.get(name)
            known = Floor(gone_uid=stale.uid) if stale is not None else None
        else:
            # Only its header: an object that breaks the class's schema must not keep others from being read.
            known = Floor(int(wire.decode_header(response.body).metadata.resource_version))
        floors.settle(name, floor, known)
        return known


def _candidates(informer: Informer[R], namespace: str | None, fields: str) -> Iterable[tuple[str, Entry]]:
    store = informer.store
    if not fields:
        return store.items(namespace)
    found: dict[str, Entry] | None = None
    for term in fields.split(","):
        name, _, value = term.partition("=")
        value = value.removeprefix("=")
        if not store.has_index(name):
            raise ValueError(
                f"list of cached {informer.kind.resource_type.plural} by field {name!r}: no such index; "
                f"declare it with cache.add_index({informer.kind.__name__}, {name!r}, …)"
            )
        matching = dict(store.by_index(name, value))
        found = matching if found is None else {key: entry for key, entry in found.items() if key in matching}
    prefix = f"{namespace}/" if namespace else ""
    return [(key, entry) for key, entry in (found or {}).items() if key.startswith(prefix)]


async def _decoded(informer: Informer[R], found: Sequence[tuple[str, Entry]], version: str) -> ObjectList[R]:
    """Decodes a snapshot in slices: some 15 µs each would otherwise hold the loop for as long as there are objects."""
    objects, unreadable = [], []
    for index, (key, entry) in enumerate(found, start=1):
        try:
            objects.append(informer.decode(entry))
        except ValidationError:
            unreadable.append(Unreadable(informer.object_key(key), entry.uid))
        if index % SLICE == 0:
            await asyncio.sleep(0)
    return ObjectList(objects, version, unreadable)


def _drop_reached(floors: KindFloors, event: InformerEvent[R]) -> None:
    floors.reached(event.change.key)
