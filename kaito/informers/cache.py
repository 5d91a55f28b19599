"""Cache: the informers of a process, read as one; a read never goes back behind this process's own writes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar, cast

from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from kaito.client import requests
from kaito.client.client import Client
from kaito.client.errors import CacheNotSynced, NotFound
from kaito.client.results import ObjectList
from kaito.informers.catch_up import CatchUp
from kaito.informers.decoded import DecodedObjects
from kaito.informers.entry import Entry, store_key
from kaito.informers.floors import WriteFloors
from kaito.informers.handlers import InformerEvent
from kaito.informers.index import OWNER_INDEX, ValueIndex, label_index, label_index_name, owner_index
from kaito.informers.informer import Informer
from kaito.informers.metrics import InformerMetrics
from kaito.informers.options import InformerOptions
from kaito.informers.query import Query, decoded, no_index
from kaito.informers.reflector import hint
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)
AnyInformer = Informer[Resource]

log = logging.getLogger(__name__)

READ_WAIT_S = 2.0


class Cache:
    """Reads of declared kinds, from memory. Implements `kaito.client.Reader`.

    Informers are shared: those who ask for the same kind with equal options get the same one. What is *read* of a
    kind comes from the informer that was declared first.

    Args:
        live: a client that reads from the API server; its middleware must contain `floors`.
        floors: raised by the writes of this process.
        options: of kinds that are not declared with options of their own.
        registry: where ``controller_informer_*`` metrics go; None: nowhere.
        rng: source of jitter.
        read_wait_s: how long a read waits for an own write to come back before it raises `CacheNotSynced`.
    """

    def __init__(
        self,
        live: Client,
        floors: WriteFloors,
        *,
        options: InformerOptions = InformerOptions(),
        registry: CollectorRegistry | None = None,
        rng: random.Random | None = None,
        read_wait_s: float = READ_WAIT_S,
    ) -> None:
        self._live = live
        self._write_floors = floors
        self._options = options
        self._rng = rng or random.Random()
        self._read_wait_s = read_wait_s
        self._informers: dict[tuple[type[Resource], InformerOptions], AnyInformer] = {}
        self._read: dict[type[Resource], AnyInformer] = {}
        self._catch_up: dict[type[Resource], CatchUp] = {}
        self._decoded = DecodedObjects()
        self._tasks: asyncio.TaskGroup | None = None
        self._running: dict[AnyInformer, asyncio.Task[None]] = {}
        if registry is not None:
            registry.register(InformerMetrics(self.informers))

    def informers(self) -> list[AnyInformer]:
        """All informers, in the order in which they were declared."""
        return list(self._informers.values())

    def informer(self, kind: type[R], options: InformerOptions | None = None) -> Informer[R]:
        """Declares a kind to be cached and returns an informer of it; starts it if the cache runs already.

        Args:
            kind: the class.
            options: which objects, and what of them. None: the informer that was declared first, or, when there is
                none, one with the cache's own options (as far as the kind has namespaces).

        Raises:
            ValueError: the options make no sense for the kind.
        """
        if options is None:
            if kind in self._read:
                return cast("Informer[R]", self._read[kind])
            options = self._default_options(kind)
        if (kind, options) not in self._informers:
            self._declare(kind, options)
        informer = self._informers[kind, options]
        if kind not in self._read:
            self._read_from(informer)
        return cast("Informer[R]", informer)

    def options_of(self, kind: type[Resource]) -> InformerOptions:
        """With which options a kind is read here, or would be if it were declared without any."""
        return self._read[kind].options if kind in self._read else self._default_options(kind)

    async def remove_informer(self, kind: type[Resource], options: InformerOptions | None = None) -> None:
        """Stops an informer and forgets it; its handlers hear nothing more. Reads of its kind are live then.

        Does nothing if there is none.
        """
        informer = self._read.get(kind) if options is None else self._informers.get((kind, options))
        if informer is None:
            return
        del self._informers[kind, informer.options]
        if self._read.get(kind) is informer:
            del self._read[kind]
            self._write_floors.drop(kind.resource_type, self._catch_up.pop(kind).floors)
        informer.close()
        if (task := self._running.pop(informer, None)) is not None:
            task.cancel()
            await asyncio.wait([task])

    def add_index(self, kind: type[R], name: str, values: Callable[[R], Iterable[str]]) -> None:
        """Indexes a kind's objects by what a function reads in them; at any time.

        Args:
            kind: the class; declared by this, if it was not.
            name: for field selectors and `by_index`; by convention the field's path.
            values: from an object to its values, or to one. An object that does not decode, or for which this raises or
                returns anything but texts, has none.

        Raises:
            ValueError: there is an index of that name.
        """
        informer = self.informer(kind)

        def index(key: str, entry: Entry) -> Iterable[str]:
            try:
                return _texts(values(informer.decode(entry)))
            except ValidationError:
                return ()
            except Exception:
                # It runs while the store changes: raised there, it would end the informer and all that stands on it.
                log.exception("index function failed", extra={"kind": kind.__name__, "index": name, "key": key})
                return ()

        if informer.store.has_index(name):
            raise ValueError(f"index {name!r} of {kind.resource_type.plural} exists already")
        informer.store.add_index(name, ValueIndex(index))

    def add_label_index(self, kind: type[Resource], *labels: str) -> None:
        """Indexes a kind's objects by labels: lists that ask for ``label=value`` look only at those; at any time."""
        store = self.informer(kind).store
        for label in labels:
            if not store.has_index(label_index_name(label)):
                store.add_index(label_index_name(label), label_index(label))

    def add_owner_index(self, kind: type[Resource]) -> None:
        """Indexes a kind's objects by their controlling owner, for `owned_by`; at any time."""
        store = self.informer(kind).store
        if not store.has_index(OWNER_INDEX):
            store.add_index(OWNER_INDEX, owner_index())

    async def run(self) -> None:
        """Runs all informers until cancelled. Can be run again: informers list anew."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                for informer in self.informers():
                    self._start(tasks, informer)
                await asyncio.get_running_loop().create_future()
            finally:
                self._tasks = None
                self._running.clear()

    async def wait_synced(self) -> None:
        """Waits, without a limit, until every declared kind is synced."""
        for informer in self.informers():
            await informer.wait_synced()

    async def relist(self) -> None:
        """Lists every kind anew and waits, without a limit, until that is in: what others wrote before is seen after.

        For a new leader, before it works: its caches may be behind the writes of the previous one.
        """
        await asyncio.gather(*(informer.relist() for informer in self.informers()))

    def serves(self, kind: type[Resource], namespace: str | None) -> bool:
        """Whether a kind (in a namespace; None: in all that are cached) is read here: whether it was declared so."""
        informer = self._read.get(kind)
        return informer is not None and informer.covers(namespace)

    async def get(self, kind: type[R], key: ObjectKey) -> R:
        """Reads one object, waiting (bounded) for an own write of it to have come back.

        What is not cached (a kind that was not declared, another namespace, an object that selectors may have left out,
        or that came unreadable) is read from the API server.

        Raises:
            NotFound: there is none of that name.
            CacheNotSynced: the kind is not synced yet, or the own write has not come back in time.
            ValueError: the kind is namespaced and the key has no namespace.
            pydantic.ValidationError: the stored object breaks the class's schema.
        """
        requests.check_key("get", kind.resource_type, key)
        if kind.resource_type.namespaced and not key.namespace:
            raise ValueError(f"get {kind.resource_type.plural} {key}: {kind.__name__} is namespaced; name a namespace")
        namespace = key.namespace if kind.resource_type.namespaced else None
        if not self.serves(kind, namespace):
            return await self._live.get(kind, key)
        informer = self._synced_informer(kind, namespace)
        name = store_key(key.name, namespace)
        await self._catch_up[kind].with_object(name)
        entry = informer.store.get(name)
        if informer.is_unreadable(name) or (entry is None and informer.options.selective):
            return await self._live.get(kind, key)
        if entry is None:
            raise NotFound(f"get {kind.resource_type.plural} {key}: not found (cache)", status=404, reason="NotFound")
        return informer.decode(entry)

    async def list(
        self, kind: type[R], *, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> ObjectList[R]:
        """Reads all that match, sorted by key, waiting (bounded) for own writes of the kind until this call.

        An object that does not decode harms nobody but itself: it is counted, and named in `ObjectList.unreadable`.
        What the informer's own selectors leave out is not in the list.

        Args:
            kind: the class.
            namespace: None for all that are cached.
            labels: label selector; terms that have an index (`add_label_index`) narrow the search.
            fields: ``INDEX=VALUE`` terms, of which objects must meet all; each needs an index of that name, but for
                ``metadata.name`` and ``metadata.namespace``.

        Raises:
            CacheNotSynced: as for `get`.
            ValueError: a field term has no index, or a selector does not parse.
        """
        namespace = namespace if kind.resource_type.namespaced else None
        if not self.serves(kind, namespace):
            return await self._live.list(kind, namespace=namespace, labels=labels, fields=fields)
        informer = self._synced_informer(kind, namespace)
        query = Query(labels, fields, namespace)
        await self._catch_up[kind].with_namespace(query.namespace)
        return await decoded(informer, query.run(informer), str(informer.store.resource_version))

    async def by_index(self, kind: type[R], name: str, value: str) -> ObjectList[R]:
        """Reads the objects that an index has under a value. Raises as `list` does."""
        if kind not in self._read or not self._read[kind].store.has_index(name):
            raise ValueError(no_index(kind, name))
        informer = self._synced_informer(kind, None)
        await self._catch_up[kind].with_namespace(None)
        found = Query.of_index(name, value).run(informer)
        return await decoded(informer, found, str(informer.store.resource_version))

    async def owned_by(self, kind: type[R], owner: Resource) -> ObjectList[R]:
        """Reads the objects of a kind whose controlling owner is this very object (by uid). Raises as `list` does.

        Raises:
            ValueError: no `add_owner_index` for the kind.
        """
        return await self.by_index(kind, OWNER_INDEX, owner.metadata.uid)

    def _default_options(self, kind: type[Resource]) -> InformerOptions:
        if kind.resource_type.namespaced or self._options.namespaces is None:
            return self._options
        return InformerOptions(list_mode=self._options.list_mode)

    def _declare(self, kind: type[R], options: InformerOptions) -> None:
        made = Informer(kind, self._live.transport, options, rng=self._rng, decoded=self._decoded)
        informer = self._informers[kind, options] = cast("AnyInformer", made)
        if self._tasks is not None:
            self._start(self._tasks, informer)

    def _read_from(self, informer: AnyInformer) -> None:
        kind, options = informer.kind, informer.options
        self._read[kind] = informer
        selector = options.selector() if options.selective else None
        floors = self._write_floors.of(kind.resource_type, informer.store, informer.covers, selector)
        self._catch_up[kind] = CatchUp(informer, floors, self._live, self._read_wait_s)
        # Objects that nobody reads must not leave their floors behind.
        informer.add_handler(partial(_drop_reached, self._catch_up[kind]))

    def _start(self, tasks: asyncio.TaskGroup, informer: AnyInformer) -> None:
        name = f"informer {informer.kind.resource_type.group_kind}"
        self._running[informer] = tasks.create_task(informer.run(), name=name)

    def _synced_informer(self, kind: type[R], namespace: str | None) -> Informer[R]:
        informer = cast("Informer[R]", self._read[kind])
        if not informer.synced_in(namespace):
            error = informer.state.error
            why = f": {error}{hint(error, kind.resource_type)}" if error else ""
            raise CacheNotSynced(f"{kind.resource_type.group_kind} is not synced yet{why}")
        return informer


def _texts(values: object) -> tuple[str, ...]:
    """The values of an object in an index.

    Raises:
        TypeError: one of them is no text.
    """
    found = (values,) if isinstance(values, str) else tuple(cast("Iterable[object]", values))
    if not all(isinstance(value, str) for value in found):
        raise TypeError(
            f"an index has texts as values; the function returned {[type(each).__name__ for each in found]}"
        )
    return cast("tuple[str, ...]", found)


def _drop_reached(catch_up: CatchUp, event: InformerEvent[R]) -> None:
    catch_up.floors.reached(event.change.key)
