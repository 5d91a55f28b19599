"""Collector: finds and removes what no single claim sees: instances and nodes whose claim is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from kaito.api import keys
from kaito.client.client import Client
from kaito.client.errors import KubeError, NotFound
from kaito.controllers.claim_registry import ClaimRegistry
from kaito.controllers.gpu_provisioner.provider import Instance, InstanceState, Provider, ProviderError
from kaito.controllers.machine.node import claim_owner
from kaito.controllers.machine.termination import INSTANCE_POLL, remove_node
from kaito.kube.core_v1 import Node
from kaito.kube.object_key import ObjectKey
from kaito.runtime.reconciler import Result

log = logging.getLogger(__name__)

# A claim and its instance are not seen to appear at the same moment; upstream waits as long.
ORPHAN_AGE = timedelta(seconds=30)
SWEEP_INTERVAL = timedelta(minutes=2)


class InstanceCollector:
    """Reconciles by node name.

    Before anything is removed, the claim's absence is confirmed by a live read: a cache can lag, and what is removed
    here runs somebody's model. Claims of both wire kinds count, whichever of them this process makes.

    Args:
        client: reads and writes.
        provider: the cloud.
        registry: finds claims.
        now: wall clock.
    """

    def __init__(
        self, client: Client, provider: Provider, registry: ClaimRegistry, now: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._provider = provider
        self._registry = registry
        self._now = now

    async def reconcile_key(self, key: ObjectKey) -> Result:
        """Removes a node, and the instance that it is, if the claim that they were made for is gone."""
        node = await self._node(key.name)
        if node is None or keys.MACHINE_TYPE_LABEL not in node.metadata.labels:
            return Result()
        owner = claim_owner(node)
        # Labels are anybody's to change; the owner reference is what registration wrote.
        name = owner.name if owner else node.metadata.labels.get(keys.AGENT_POOL_LABEL, node.metadata.name)
        uid = await self._claim_uid(node, name)
        if not uid or await self._claim_lives(name, uid, live=False):
            return Result()
        created = node.metadata.creation_timestamp
        age = self._now() - created if created is not None else ORPHAN_AGE
        if age < ORPHAN_AGE:
            return Result(requeue_after=ORPHAN_AGE - age + timedelta(seconds=1))
        if await self._claim_lives(name, uid, live=True):
            return Result()
        log.warning("removing a node whose claim is gone", extra={"node": key.name, "provider": self._provider.name})
        if not await self._provider.begin_delete(name, uid):
            return Result(requeue_after=INSTANCE_POLL)
        await remove_node(self._client, node)
        return Result()

    async def sweep(self) -> list[Instance]:
        """Removes instances that have neither claim nor node; returns them.

        Raises:
            ProviderError: the inventory is not complete, so nothing was removed.
        """
        removed = []
        for instance in await self._provider.list():
            if instance.state is InstanceState.DELETING or await self._node(instance.name) is not None:
                continue
            if not await self._claim_lives(instance.name, instance.uid, live=True):
                log.warning("removing an instance whose claim is gone", extra={"instance": instance.name})
                await self._provider.begin_delete(instance.name, instance.uid)
                removed.append(instance)
        return removed

    async def _claim_uid(self, node: Node, name: str) -> str:
        """The uid of the claim that a node was made for; empty for a node that is not ours at all."""
        owner = claim_owner(node)
        if owner is not None:
            return owner.uid
        instance = await self._provider.observe(name)
        return instance.uid if instance is not None and self._provider.is_node_of(instance, node) else ""

    async def _claim_lives(self, name: str, uid: str, *, live: bool) -> bool:
        found = await self._registry.named([name], live=live)
        # A claim that cannot be read, and a cloud that lost the uid, are given the benefit of the doubt.
        return bool(found.unreadable) or any(uid in ("", claim.metadata.uid) for claim in found.claims)

    async def _node(self, name: str) -> Node | None:
        try:
            return await self._client.get(Node, ObjectKey(name))
        except NotFound:
            return None


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
            except (KubeError, ProviderError) as error:
                log.warning("sweep failed; the next one tries again", extra={"error": str(error)})
            except Exception:
                log.exception("sweep failed; the next one tries again")
