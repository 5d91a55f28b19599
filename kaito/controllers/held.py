"""Held: reconcilers that do nothing, or make nothing, before something is known."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Generic, TypeVar

from kaito.client.client import Client
from kaito.client.errors import NotFound
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.reconciler import KeyReconciler, Reconciler, Result

R = TypeVar("R", bound=Resource)

LOOK_AGAIN = timedelta(seconds=5)


class HeldKeys:
    """A reconciler of keys that waits for an event; its keys stay in work meanwhile.

    Args:
        reconciler: what reconciles then.
        until: what it waits for.
    """

    def __init__(self, reconciler: KeyReconciler, until: asyncio.Event) -> None:
        self._reconciler = reconciler
        self._until = until

    async def reconcile_key(self, key: ObjectKey) -> Result:
        """See `KeyReconciler`."""
        await self._until.wait()
        return await self._reconciler.reconcile_key(key)


class MakingHeld:
    """A reconciler of keys that makes nothing before an event; what is being deleted, or is gone, has its turn.

    A key that is not let through keeps no worker: it comes back after a while, or when somebody asks for all anew.

    Args:
        reconciler: what reconciles.
        kind: of what the keys are.
        client: reads.
        until: what making waits for.
    """

    def __init__(self, reconciler: KeyReconciler, kind: type[Resource], client: Client, until: asyncio.Event) -> None:
        self._reconciler = reconciler
        self._kind = kind
        self._client = client
        self._until = until

    async def reconcile_key(self, key: ObjectKey) -> Result:
        """See `KeyReconciler`."""
        if not self._until.is_set() and await self._stays(key):
            return Result(requeue_after=LOOK_AGAIN)
        return await self._reconciler.reconcile_key(key)

    async def _stays(self, key: ObjectKey) -> bool:
        try:
            return (await self._client.get(self._kind, key)).metadata.deletion_timestamp is None
        except NotFound:
            return False


class MakingHeldOfObjects(Generic[R]):
    """The same for a reconciler of objects.

    Args:
        reconciler: what reconciles.
        until: what making waits for.
    """

    def __init__(self, reconciler: Reconciler[R], until: asyncio.Event) -> None:
        self._reconciler = reconciler
        self._until = until

    async def reconcile(self, obj: R) -> Result:
        """See `Reconciler`."""
        if not self._until.is_set() and obj.metadata.deletion_timestamp is None:
            return Result(requeue_after=LOOK_AGAIN)
        return await self._reconciler.reconcile(obj)
