"""NodeKeeper: keeps the Nodes of this agent alive: their Leases, their status, their taints."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Final

from kaito.client import Client, Conflict, KubeError, NotFound
from kaito.client.transport import Request
from kaito.devcluster.process_nodes import node_status
from kaito.devcluster.process_nodes.addresses import LABEL
from kaito.devcluster.process_nodes.images import ImageTable
from kaito.devcluster.process_nodes.node_pressure import Look
from kaito.informers import Cache
from kaito.informers.handlers import InformerEvent
from kaito.kube.coordination_v1 import Lease, LeaseSpec
from kaito.kube.core_v1 import Node
from kaito.kube.meta_v1 import ObjectMeta, OwnerReference
from kaito.kube.object_key import ObjectKey
from kaito.runtime.clocks import loop_time, utc_now
from kaito.runtime.service import Service

log = logging.getLogger(__name__)

LEASE_NAMESPACE: Final = "kube-node-lease"
RENEW_INTERVAL_S: Final = 10.0
LEASE_DURATION_S: Final = 40
STATUS_INTERVAL_S: Final = 300.0
"""Between two reports of a status that did not change, as a kubelet's nodeStatusReportFrequency."""
_RETRY_S: Final = 1.0
_GOODBYE_S: Final = 5.0


@dataclass(slots=True)
class _Kept:
    node: Node
    lease_due: float = 0.0
    status_due: float = 0.0


class NodeKeeper(Service):
    """Does for Nodes what a kubelet does for its own. A service of the agent's manager: ``manager.add(keeper)``.

    A node's capacity stays what whoever made it said; what was not said is that of this machine. When it is stopped,
    it says of its Nodes that they are not ready (AgentStopped); an agent that is killed is found out by the Leases.

    Args:
        client: writes.
        images: what the Nodes say they have.
        look: at what their machine runs out of.
    """

    def __init__(self, client: Client, images: ImageTable, look: Look) -> None:
        self._client = client
        self._look = look
        self._pressures = look()
        self._images = [image.pattern for image in images.images]
        self._kept: dict[str, _Kept] = {}
        self._wake = asyncio.Event()
        self._version = ""

    def watch(self, cache: Cache) -> None:
        """Adopts the Nodes with the agent's label that the cache has or gets, and forgets those that it loses."""
        cache.informer(Node).add_handler(self._note)

    def adopt(self, node: Node) -> None:
        """Keeps a Node from now on. Call it again with what became of the Node: what others wrote is put right."""
        kept = self._kept.get(node.metadata.name)
        if kept is None or kept.node.metadata.uid != node.metadata.uid:
            self._kept[node.metadata.name] = _Kept(node)
            self._wake.set()
            return
        kept.node = node
        if not node_status.is_known(node, self._pressures) or node_status.lasting_taints(node) != node.spec.taints:
            kept.status_due = 0.0
            self._wake.set()

    def forget(self, name: str) -> None:
        """Keeps a Node no longer; it is gone, or is not this agent's any more."""
        self._kept.pop(name, None)

    async def run(self) -> None:
        """Keeps the Nodes until cancelled; they are not ready any more then."""
        try:
            while True:
                self._wake.clear()
                self._look_at_machine()
                await asyncio.gather(*map(self._keep, [*self._kept.values()]))
                due = (min(kept.lease_due, kept.status_due) for kept in self._kept.values())
                pause = max(0.0, min((*due, loop_time() + RENEW_INTERVAL_S)) - loop_time())
                try:
                    await asyncio.wait_for(self._wake.wait(), pause)
                except TimeoutError:
                    continue
        finally:
            await self._say_goodbye()

    def _look_at_machine(self) -> None:
        before, self._pressures = self._pressures, self._look()
        for name, (status, _, message) in self._pressures.items():
            if status == before[name][0]:
                continue
            log.warning("pressure of the machine changed", extra={"condition": name, "status": status, "why": message})
            for kept in self._kept.values():
                kept.status_due = 0.0

    def _note(self, event: InformerEvent[Node]) -> None:
        node = event.new
        if node is not None and node.metadata.labels.get(LABEL) == "true":
            self.adopt(node)
        else:
            self.forget(event.key.name)

    async def _keep(self, kept: _Kept) -> None:
        now = loop_time()
        try:
            if kept.lease_due <= now:
                await self._renew(kept)
                kept.lease_due = now + RENEW_INTERVAL_S
            if kept.status_due <= now:
                # Before, not after: whoever writes meanwhile makes it due anew.
                kept.status_due = now + STATUS_INTERVAL_S
                await self._report(kept)
        except NotFound as error:
            self._put_off(kept)
            log.debug("node is not there", extra={"node": kept.node.metadata.name, "error": str(error)})
        except KubeError as error:
            self._put_off(kept)
            text = "node cannot be kept alive; trying again"
            log.warning(text, extra={"node": kept.node.metadata.name, "error": str(error)})

    def _put_off(self, kept: _Kept) -> None:
        soon = loop_time() + _RETRY_S
        kept.lease_due, kept.status_due = max(kept.lease_due, soon), soon

    async def _renew(self, kept: _Kept) -> None:
        metadata = kept.node.metadata
        owner = OwnerReference(api_version="v1", kind="Node", name=metadata.name, uid=metadata.uid)
        lease = Lease(
            metadata=ObjectMeta(name=metadata.name, namespace=LEASE_NAMESPACE, owner_references=(owner,)),
            spec=LeaseSpec(
                holder_identity=metadata.name, lease_duration_seconds=LEASE_DURATION_S, renew_time=utc_now()
            ),
        )
        await self._client.apply(lease, force=True)

    async def _report(self, kept: _Kept) -> None:
        node = await self._client.live.get(Node, kept.node.key)
        if node.metadata.uid != kept.node.metadata.uid:
            return
        version = await self._kubernetes_version()
        status = node_status.living(node, self._pressures, version=version, images=self._images)
        node = await self._client.status.patch(Node, node.key, {"status": status}, type="strategic")
        await self._put_right(node)

    async def _put_right(self, node: Node) -> None:
        """Adds a kubelet's labels; takes away what others do, where there are such others."""
        taints, labels = node_status.lasting_taints(node), node_status.missing_labels(node)
        patch: dict[str, object] = {"metadata": {"labels": labels}} if labels else {}
        if taints != node.spec.taints:
            patch["spec"] = {"taints": [taint.to_dict() for taint in taints]}
        if not patch:
            return
        try:
            version = node.metadata.resource_version
            await self._client.patch(Node, node.key, patch, resource_version=version)
        except Conflict:
            return  # The change that was in between makes the informer adopt the Node again.

    async def _kubernetes_version(self) -> str:
        if not self._version:
            answer = await self._client.request(Request("GET", "/version", "get"))
            self._version = str(json.loads(answer.body)["gitVersion"])
        return self._version

    async def _say_goodbye(self) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await asyncio.gather(*(self._leave(kept.node.key) for kept in self._kept.values()))
        except TimeoutError:
            log.warning("nodes could not be marked as not ready in time; their Leases run out")

    async def _leave(self, key: ObjectKey) -> None:
        try:
            node = await self._client.live.get(Node, key)
            await self._client.status.patch(Node, key, {"status": node_status.stopped(node)}, type="strategic")
        except NotFound:
            return
        except KubeError as error:
            log.warning("node cannot be marked as not ready", extra={"node": key.name, "error": str(error)})
