"""Termination: a claim's way out: cordon, drain, delete the instance, let the Node go, let the claim go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from kaito.api import keys
from kaito.client.client import Client
from kaito.client.errors import NotFound, TooManyRequests
from kaito.controllers.claims import Claim
from kaito.controllers.gpu_provisioner.provider import Provider
from kaito.controllers.machine.node import is_of
from kaito.controllers.machine.progress import tell_held_up
from kaito.kube.core_v1 import Node, Pod
from kaito.kube.pod_v1 import Toleration
from kaito.runtime.finalizers import drop_finalizer
from kaito.runtime.reconciler import Result

log = logging.getLogger(__name__)

# A pod is looked for soon after its deletion began, and less often the longer it stays: a tenth of the time so far.
DRAIN_POLL = timedelta(seconds=1)
MAX_DRAIN_POLL = timedelta(seconds=30)
INSTANCE_POLL = timedelta(seconds=5)
# A kubelet that is gone ends no pod: after this long past its time a pod is not waited for (karpenter).
STUCK_AFTER = timedelta(minutes=1)


class Termination:
    """Takes a claim that is being deleted apart, one step per call; each step is safe to take again.

    Args:
        client: reads and writes.
        provider: the cloud.
        now: wall clock.
    """

    def __init__(self, client: Client, provider: Provider, now: Callable[[], datetime]) -> None:
        self._client = client
        self._provider = provider
        self._now = now

    async def step(self, claim: Claim, nodes: Iterable[Node]) -> Result:
        """Does what comes next; the claim's finalizer goes last.

        Args:
            claim: with a deletion timestamp.
            nodes: that may be its node; those that are another's are left alone.
        """
        if keys.TERMINATION_FINALIZER not in claim.metadata.finalizers:
            return Result()
        name = claim.metadata.name
        own = [node for node in nodes if is_of(node, claim)]
        # Where the instance is gone, nobody is left who could end the pods.
        if own and await self._provider.observe(name) is not None:
            holds = [held for node in own if (held := await self._drain(await self._cordon(node)))]
            if holds:
                await self._tell(claim, holds[0])
                return Result(requeue_after=self._poll(claim))
        if not await self._provider.begin_delete(name, claim.metadata.uid):
            await self._tell(claim, f"{self._provider.name} is deleting instance {name}", is_drained=True)
            return Result(requeue_after=INSTANCE_POLL)
        for node in own:
            await remove_node(self._client, node)
        await drop_finalizer(self._client, claim, keys.TERMINATION_FINALIZER)
        log.info("claim terminated", extra={"claim": name})
        return Result()

    async def _tell(self, claim: Claim, message: str, *, is_drained: bool = False) -> None:
        if await tell_held_up(self._client, claim, self._now(), message, is_drained=is_drained):
            log.info("claim's deletion waits", extra={"claim": claim.metadata.name, "why": message})

    def _poll(self, claim: Claim) -> timedelta:
        began = claim.metadata.deletion_timestamp or self._now()
        return min(MAX_DRAIN_POLL, max(DRAIN_POLL, (self._now() - began) / 10))

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

    async def _drain(self, node: Node) -> str | None:
        """Asks the pods of a node to leave; returns in words who is still there, and why."""
        pods = await self._client.live.list(Pod, fields=f"spec.nodeName={node.metadata.name}")
        staying = [pod for pod in pods if self._must_leave(pod)]
        ending = [f"{pod.key} is ending" for pod in staying if pod.metadata.deletion_timestamp is not None]
        asked = [pod for pod in staying if pod.metadata.deletion_timestamp is None]
        held = [f"{pod.key}: {refusal}" for pod in asked if (refusal := await self._evict(pod)) is not None]
        if not staying:
            return None
        # Who was asked just now has not begun to end; who refuses is what a person can do something about.
        why = next(iter((*held, *ending)), f"{staying[0].key} is ending")
        return f"node {node.metadata.name} waits for pods to leave ({len(staying)}): {why}"

    async def _evict(self, pod: Pod) -> str | None:
        """Asks a pod to leave; returns why it may not, if a disruption budget holds it."""
        try:
            await self._client.evict(pod.key, uid=pod.metadata.uid)
        except NotFound:
            return None
        except TooManyRequests as error:
            # A disruption budget holds the pod: it is asked again, for as long as it takes. The causes name it.
            return "; ".join(cause.message for cause in error.causes if cause.message) or error.message
        return None

    def _must_leave(self, pod: Pod) -> bool:
        if pod.status.phase in ("Succeeded", "Failed"):
            return False
        asked = pod.metadata.deletion_timestamp
        if asked is not None and asked + STUCK_AFTER < self._now():
            return False
        owners = {owner.kind for owner in pod.metadata.owner_references}
        # Static pods have no life without their node; a DaemonSet's, and what tolerates the taint, would come back.
        return not owners & {"Node", "DaemonSet"} and not any(map(_stays_on, pod.spec.tolerations))


async def remove_node(client: Client, node: Node) -> None:
    """Deletes a Node whose instance is gone, our finalizer included; one that is gone is what was wanted.

    Raises:
        Conflict: it changed meanwhile; try again.
    """
    try:
        current = await client.live.get(Node, node.key)
        if current.metadata.uid == node.metadata.uid and current.metadata.deletion_timestamp is None:
            await client.delete(Node, node.key, uid=node.metadata.uid)
            current = await client.live.get(Node, node.key)
    except NotFound:
        return
    if current.metadata.uid == node.metadata.uid:
        await drop_finalizer(client, current, keys.TERMINATION_FINALIZER)


def _stays_on(toleration: Toleration) -> bool:
    """Whether a pod with this toleration could be scheduled onto a node that is being drained."""
    return toleration.effect in (None, "", "NoSchedule") and (
        toleration.key == keys.DISRUPTED_TAINT or (not toleration.key and toleration.operator == "Exists")
    )
