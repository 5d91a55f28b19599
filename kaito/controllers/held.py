"""Held: reconcilers that do nothing before something is known; their keys stay in work meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Generic, TypeVar

from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.reconciler import KeyReconciler, Reconciler, Result

R = TypeVar("R", bound=Resource)


class HeldKeys:
    """A reconciler of keys that waits for an event.

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


class HeldObjects(Generic[R]):
    """A reconciler of objects that waits for an event, and has an object for which it waited read anew.

    Args:
        reconciler: what reconciles then.
        until: what it waits for.
    """

    def __init__(self, reconciler: Reconciler[R], until: asyncio.Event) -> None:
        self._reconciler = reconciler
        self._until = until

    async def reconcile(self, obj: R) -> Result:
        """See `Reconciler`."""
        if not self._until.is_set():
            await self._until.wait()
            return Result(requeue_after=timedelta())
        return await self._reconciler.reconcile(obj)
