"""FreshCaches: caches that have what the leader before wrote, for controllers that were elected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from weakref import WeakKeyDictionary

from kaito.informers.cache import Cache
from kaito.informers.informer import Informer
from kaito.kube.resource import Resource

log = logging.getLogger(__name__)

PATIENCE_S = 10.0


class FreshCaches:
    """Lists kinds anew, once for all who ask for it before that list begins.

    Args:
        cache: whose kinds.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._rounds: WeakKeyDictionary[Informer[Resource], _Rounds] = WeakKeyDictionary()

    async def wait(self, needed: Collection[type[Resource]]) -> None:
        """Lists all kinds that are cached anew, not only those that a controller watches: it may read any of them.

        What cannot be listed, for the API server refuses it or its kind is gone, holds nobody up who does not need it.

        Args:
            needed: the kinds to wait for without a limit.
        """
        async with asyncio.TaskGroup() as tasks:
            for informer in self._cache.informers():
                if informer.synced:
                    tasks.create_task(self._list_anew(informer, informer.kind in needed), name=f"relist of {informer}")

    async def _list_anew(self, informer: Informer[Resource], needed: bool) -> None:
        rounds = self._rounds.setdefault(informer, _Rounds(informer))
        listing = asyncio.create_task(rounds.wait_next())
        try:
            while not listing.done():
                await asyncio.wait([listing], timeout=PATIENCE_S)
                if not listing.done() and informer.state.error is not None and not needed:
                    fields = {"kind": str(informer.kind.resource_type.group_kind), "error": str(informer.state.error)}
                    log.warning("a kind cannot be listed anew: a new leader may read of it what is old", extra=fields)
                    return
            listing.result()
        finally:
            listing.cancel()
            await asyncio.wait([listing])


class _Rounds:
    """Lists of one kind. One that is in progress is not begun again for each who asks: it might never end."""

    def __init__(self, informer: Informer[Resource]) -> None:
        self._informer = informer
        self._asked = 0
        self._served = 0
        self._one_at_a_time = asyncio.Lock()

    async def wait_next(self) -> None:
        """Waits for a list that begins after this call."""
        self._asked += 1
        mine = self._asked
        async with self._one_at_a_time:
            if self._served >= mine:
                return
            serves = self._asked
            await self._informer.relist()
            self._served = serves
