"""CatchUp: makes a cached read wait, bounded, until it would show this process's own writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from kaito.client import requests, wire
from kaito.client.client import Client
from kaito.client.errors import CacheNotSynced, NotFound
from kaito.informers.floors import Floor, KindFloors
from kaito.informers.informer import Informer
from kaito.kube.resource import Resource


class CatchUp:
    """Waits for the floors of one cached kind.

    Args:
        informer: what is read.
        floors: what it must have reached.
        live: a client that reads from the API server.
        wait_s: how long at most.
    """

    def __init__(self, informer: Informer[Resource], floors: KindFloors, live: Client, wait_s: float) -> None:
        self.floors = floors
        self._informer = informer
        self._live = live
        self._wait_s = wait_s
        self._is_listed: Callable[[], bool] | None = None

    async def with_object(self, name: str) -> None:
        """Waits until a read of one store key shows the own writes of it that there were at the call.

        Raises:
            CacheNotSynced: they have not come back in time.
        """
        await self._with_list()
        if self.floors and not self.floors.reached(name):
            await self._wait([name])

    async def with_namespace(self, namespace: str | None) -> None:
        """The same for all objects of a namespace; None: of all."""
        await self._with_list()
        if self.floors:
            await self._wait(self.floors.pending(namespace))

    async def _with_list(self) -> None:
        """Waits for another list, if a write has made one needed; later reads wait on for one that takes longer."""
        if self.floors.take_behind():
            self._is_listed = self._informer.begin_relist()
        if self._is_listed is None:
            return
        try:
            async with asyncio.timeout(self._wait_s):
                await self._informer.wait_until(self._is_listed)
        except TimeoutError:
            kind = self._informer.kind.resource_type.group_kind
            raise CacheNotSynced(f"{kind} is listed anew after a write of many, which takes its time") from None
        if self._is_listed is not None and self._is_listed():
            self._is_listed = None

    async def _wait(self, names: Sequence[str]) -> None:
        """Waits until the floors that these keys have now are reached; later ones do not prolong the wait."""
        floors, informer = self.floors, self._informer
        awaited = {name: floor for name in names if (floor := floors.get(name)) is not None}
        name = ""
        try:
            async with asyncio.timeout(self._wait_s):
                for name, floor in awaited.items():
                    known = await self._resolve(name, floor) if floor.unknown else floor
                    if known is not None:
                        await informer.wait_until(partial(floors.meets, name, known))
        except TimeoutError:
            # Should the server have lost the write (an etcd restored from a backup), waiting again would never end.
            floors.doubt(name)
            raise CacheNotSynced(
                f"{informer.kind.resource_type.group_kind} {name}: an own write has not come back "
                f"through the watch within {self._wait_s:g} s"
            ) from None

    async def _resolve(self, name: str, floor: Floor) -> Floor | None:
        """Finds out by a live read what became of a write whose answer was lost; None: the store need not move."""
        live = await self._read_live(name)
        if live is None:
            stale = self._informer.store.get(name)
            known = Floor(gone_uid=stale.uid) if stale is not None else None
        else:
            # Only its header: an object that breaks the class's schema must not keep others from being read.
            known = Floor(int(live.resource_version))
        self.floors.settle(name, floor, known)
        return known

    async def _read_live(self, name: str) -> wire.MetadataHeader | None:
        """The object's metadata, if it exists and the informer's selectors take it: the server itself is asked."""
        informer, options = self._informer, self._informer.options
        key, resource = informer.object_key(name), informer.kind.resource_type
        if not options.selective:
            try:
                response = await self._live.request(requests.on_object("GET", "get", resource, key))
            except NotFound:
                return None
            return wire.decode_header(response.body).metadata
        fields = ",".join(filter(None, (options.fields, f"metadata.name={key.name}")))
        query = requests.selectors(options.labels, fields)
        response = await self._live.request(requests.on_collection("GET", "list", resource, key.namespace, query))
        found = wire.decode_page(response.body).items or ()
        return wire.decode_header(found[0]).metadata if found else None
