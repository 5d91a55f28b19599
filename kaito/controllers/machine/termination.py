"""Termination: a claim's way out: cordon, drain, delete the instance, let the Node go, let the claim go."""

from __future__ import annotations

import logging
from datetime import timedelta

import msgspec

from kaito.api import keys
from kaito.client.client import Client
from kaito.client.errors import NotFound, TooManyRequests
from kaito.client.transport import Request
from kaito.controllers.claims import Claim
from kaito.controllers.gpu_provisioner.provider import Provider
from kaito.kube.core_v1 import Node, Pod
from kaito.runtime.owners import drop_finalizer
from kaito.runtime.reconciler import Result

log = logging.getLogger(__name__)

DRAIN_POLL = timedelta(seconds=1)
INSTANCE_POLL = timedelta(seconds=5)


class Termination:
    """Takes a claim that is being deleted apart, one step per call; each step is safe to take again.

    Args:
        client: reads and writes.
        provider: the cloud.
    """

    def __init__(self, client: Client, provider: Provider) -> None:
        self._client = client
        self._provider = provider

    async def step(self, claim: Claim, node: Node | None) -> Result:
        """Does what comes next; the claim's finalizer goes last."""
        if keys.TERMINATION_FINALIZER not in claim.metadata.finalizers:
            return Result()
        if node is not None:
            node = await self._cordon(node)
            if await self._drain(node):
                return Result(requeue_after=DRAIN_POLL)
        if not await self._provider.begin_delete(claim.metadata.name):
            return Result(requeue_after=INSTANCE_POLL)
        if node is not None:
            await self._remove(node)
        await drop_finalizer(self._client, claim, keys.TERMINATION_FINALIZER)
        log.info("claim terminated", extra={"claim": claim.metadata.name})
        return Result()

    async def _cordon(self, node: Node) -> Node:
        if any(taint.key == keys.DISRUPTED_TAINT for taint in node.spec.taints):
            return node
        taints = [taint.to_dict() for taint in node.spec.taints]
        taints.append({"key": keys.DISRUPTED_TAINT, "effect": "NoSchedule"})
        metadata = {
            "resourceVersion": node.metadata.resource_version,
            "labels": {keys.EXCLUDE_FROM_LOAD_BALANCERS_LABEL: "karpenter"},
        }
        return await self._client.patch(Node, node.key, {"metadata": metadata, "spec": {"taints": taints}})

    async def _drain(self, node: Node) -> int:
        """Asks the pods of a node to leave; returns how many are still there."""
        pods = await self._client.live.list(Pod, fields=f"spec.nodeName={node.metadata.name}")
        staying = [pod for pod in pods if _must_leave(pod)]
        for pod in staying:
            if pod.metadata.deletion_timestamp is None:
                await self._evict(pod)
        return len(staying)

    async def _evict(self, pod: Pod) -> None:
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.metadata.name, "namespace": pod.metadata.namespace},
            "deleteOptions": {"preconditions": {"uid": pod.metadata.uid}},
        }
        path = Pod.resource_type.path(pod.metadata.namespace, pod.metadata.name, "eviction")
        request = Request("POST", path, "create", body=msgspec.json.encode(eviction), resource=Pod.resource_type)
        try:
            await self._client.request(request)
        except NotFound:
            return
        except TooManyRequests as error:
            # A disruption budget holds the pod: it is asked again, for as long as it takes.
            log.info("pod stays for now", extra={"pod": str(pod.key), "error": error.message})

    async def _remove(self, node: Node) -> None:
        try:
            if node.metadata.deletion_timestamp is None:
                await self._client.delete(Node, node.key, uid=node.metadata.uid)
            current = await self._client.live.get(Node, node.key)
        except NotFound:
            return
        await drop_finalizer(self._client, current, keys.TERMINATION_FINALIZER)


def _must_leave(pod: Pod) -> bool:
    if pod.status.phase in ("Succeeded", "Failed"):
        return False
    owners = {owner.kind for owner in pod.metadata.owner_references}
    # Static pods have no life without their node, and a DaemonSet's would come back at once.
    return not owners & {"Node", "DaemonSet"}
