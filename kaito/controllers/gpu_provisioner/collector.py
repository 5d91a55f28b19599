"""Collector: finds and removes what no single claim sees: instances and nodes whose claim is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from kaito.api import keys
from kaito.client.client import Client
from kaito.client.errors import NotFound
from kaito.controllers.claims import ClaimKind
from kaito.controllers.gpu_provisioner.provider import Instance, Provider
from kaito.kube.core_v1 import Node
from kaito.kube.object_key import ObjectKey
from kaito.runtime.owners import drop_finalizer
from kaito.runtime.reconciler import Result

log = logging.getLogger(__name__)

# A claim and its instance are not seen to appear at the same moment; upstream waits as long.
ORPHAN_AGE = timedelta(seconds=30)
SWEEP_INTERVAL = timedelta(minutes=2)


class InstanceCollector:
    """Reconciles by instance name: one key per claim, node or instance.

    Before anything is removed, the claim's absence is confirmed by a live read: a cache can lag, and what is removed
    here runs somebody's model.

    Args:
        client: reads and writes.
        provider: the cloud.
        claims: the kind of claim that instances are made for.
        now: wall clock.
    """

    def __init__(self, client: Client, provider: Provider, claims: ClaimKind, now: Callable[[], datetime]) -> None:
        self._client = client
        self._provider = provider
        self._claims = claims
        self._now = now

    async def reconcile_key(self, key: ObjectKey) -> Result:
        """Removes the node and the instance of a name whose claim is gone."""
        node = await self._node(key.name)
        if node is None or keys.MACHINE_TYPE_LABEL not in node.metadata.labels:
            return Result()
        if await self._claim_exists(key.name, live=False):
            return Result()
        created = node.metadata.creation_timestamp
        age = self._now() - created if created is not None else ORPHAN_AGE
        if age < ORPHAN_AGE:
            return Result(requeue_after=ORPHAN_AGE - age + timedelta(seconds=1))
        if await self._claim_exists(key.name, live=True):
            return Result()
        log.warning("removing a node whose claim is gone", extra={"node": key.name, "provider": self._provider.name})
        if not await self._provider.begin_delete(key.name):
            return Result(requeue_after=timedelta(seconds=5))
        await self._remove_node(node)
        return Result()

    async def sweep(self) -> list[Instance]:
        """Removes instances that have neither claim nor node; returns them.

        Raises:
            ProviderError: the inventory is not complete, so nothing was removed.
        """
        removed = []
        for instance in await self._provider.list():
            if await self._node(instance.name) is not None:
                continue
            if not await self._claim_exists(instance.name, live=True):
                log.warning("removing an instance whose claim is gone", extra={"instance": instance.name})
                await self._provider.begin_delete(instance.name)
                removed.append(instance)
        return removed

    async def _claim_exists(self, name: str, *, live: bool) -> bool:
        client = self._client.live if live else self._client
        try:
            await client.get(self._claims.kind, ObjectKey(name))
        except NotFound:
            return False
        return True

    async def _node(self, name: str) -> Node | None:
        try:
            return await self._client.get(Node, ObjectKey(name))
        except NotFound:
            return None

    async def _remove_node(self, node: Node) -> None:
        try:
            await self._client.delete(Node, node.key, uid=node.metadata.uid)
            current = await self._client.live.get(Node, node.key)
        except NotFound:
            return
        await drop_finalizer(self._client, current, keys.TERMINATION_FINALIZER)


class Sweeper:
    """Runs `InstanceCollector.sweep` every two minutes."""

    def __init__(self, collector: InstanceCollector) -> None:
        self._collector = collector

    async def run(self) -> None:
        """Sweeps until cancelled; a failed sweep is logged, and the next one tries again."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL.total_seconds())
            try:
                await self._collector.sweep()
            except Exception:
                log.exception("sweep failed; the next one tries again")
