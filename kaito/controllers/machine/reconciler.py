"""ClaimReconciler: the only writer of a claim's status and finalizer; takes it to a ready node and back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from kaito.api import keys
from kaito.client.client import Client
from kaito.client.errors import NotFound
from kaito.controllers.claims import Claim, ClaimKind, instance_type_of, is_managed, lost_marks
from kaito.controllers.gpu_provisioner.provider import Instance, InstanceState, LaunchSpec, Provider, ProviderError
from kaito.controllers.machine.node import initialization_fault, mark_initialized, register
from kaito.controllers.machine.progress import Progress
from kaito.controllers.machine.termination import Termination
from kaito.controllers.turns import as_reason
from kaito.kube.conditions import find, is_true
from kaito.kube.core_v1 import Node
from kaito.kube.object_key import ObjectKey
from kaito.kube.quantity import Quantity
from kaito.runtime.events import EventRecorder
from kaito.runtime.finalizers import ensure_finalizer
from kaito.runtime.reconciler import Result

log = logging.getLogger(__name__)

POLL_INTERVAL = timedelta(seconds=5)
# No event tells that a name has become free, or that a cloud has come to know an instance type.
REFUSED_INTERVAL = timedelta(minutes=1)
GIBIBYTE = Quantity.parse("1Gi")


class ClaimReconciler:
    """Reconciles claims of one wire kind with a provider.

    Args:
        client: reads (Nodes and claims from a cache) and writes.
        provider: the cloud.
        claims: the wire kind.
        now: wall clock, for condition times.
        events: tells people what was done; None: nobody is told.
    """

    def __init__(
        self,
        client: Client,
        provider: Provider,
        claims: ClaimKind,
        now: Callable[[], datetime],
        events: EventRecorder | None = None,
    ) -> None:
        # One that does not run tells nobody.
        self._events = events or EventRecorder(client, "kaito")
        self._client = client
        self._provider = provider
        self._claims = claims
        self._now = now
        self._termination = Termination(client, provider, now)

    async def reconcile(self, claim: Claim) -> Result:
        """Moves a claim on: launch, registration, initialization; or, when it is being deleted, termination."""
        if not is_managed(claim):
            return Result()
        try:
            return await self._step(claim)
        except NotFound as error:
            # The claim, or its node, went while it was worked on.
            log.info("claim or node is gone", extra={"claim": claim.metadata.name, "error": str(error)})
            return Result(requeue_after=POLL_INTERVAL)

    async def _step(self, claim: Claim) -> Result:
        claim = await self._put_back(claim)
        if claim.metadata.deletion_timestamp is not None:
            return await self._termination.step(claim, await self._nodes(claim))
        claim = await ensure_finalizer(self._client, claim, keys.TERMINATION_FINALIZER)
        progress = Progress(self._claims, claim, self._now())
        try:
            result = await self._advance(claim, progress)
        except Exception:
            # How far it came, and why no further, is what the user looks at.
            await self._save(progress)
            raise
        await self._save(progress)
        if progress.is_lost:
            # The claim goes with its node, is drained and terminated in order, and whoever wanted it makes another.
            log.warning("node is going away, and its claim with it", extra={"claim": claim.metadata.name})
            await self._client.delete(self._claims.kind, claim.key, uid=claim.metadata.uid)
        return result

    async def _save(self, progress: Progress) -> None:
        await progress.save(self._client)
        progress.tell(self._events)

    async def _put_back(self, claim: Claim) -> Claim:
        """Puts back what somebody took off of that by which a claim's Workspace finds it."""
        lost = lost_marks(claim)
        if not lost:
            return claim
        log.warning("claim gets its lost marks back", extra={"claim": claim.metadata.name, "lost": lost})
        metadata = {"resourceVersion": claim.metadata.resource_version, **lost}
        put: Claim = await self._client.patch(self._claims.kind, claim.key, {"metadata": metadata})
        return put

    async def _advance(self, claim: Claim, progress: Progress) -> Result:
        instance = await self._launch(claim, progress)
        if instance is None:
            return Result(requeue_after=REFUSED_INTERVAL)
        match instance.state:
            case InstanceState.RUNNING:
                pass
            case InstanceState.CREATING | InstanceState.DELETING:
                return Result(requeue_after=POLL_INTERVAL)
            case InstanceState.FAILED:
                return Result(requeue_after=REFUSED_INTERVAL)
        node = await self._register(claim, instance, progress)
        if node is None:
            return Result()
        return await self._initialize(node, progress)

    async def _launch(self, claim: Claim, progress: Progress) -> Instance | None:
        launched = self._claims.launched
        try:
            instance = await self._observe_or_create(claim)
        except ProviderError as error:
            progress.unmet(launched, error.reason, error.message, final=not error.retryable)
            if error.retryable:
                self._tell_failed_try(claim, error)
                raise
            log.warning("launch refused", extra={"claim": claim.metadata.name, "error": error.message})
            return None
        match instance.state:
            case InstanceState.RUNNING:
                progress.launched(instance)
            case InstanceState.CREATING:
                progress.unmet(launched, "Creating", instance.message or f"{self._provider.name} is creating it")
            case InstanceState.FAILED:
                progress.unmet(launched, "LaunchFailed", instance.message, final=True)
            case InstanceState.DELETING if claim.status.provider_id:
                progress.lost("InstanceGoing", f"instance {instance.provider_id} is being deleted")
            case InstanceState.DELETING:
                progress.unmet(launched, "InstanceGoing", f"an earlier instance {instance.name} is still going away")
        return instance

    def _tell_failed_try(self, claim: Claim, error: ProviderError) -> None:
        """Says why there is no instance yet, once for each reason."""
        before = find(claim.status.conditions, self._claims.launched)
        if before is None or before.reason != error.reason:
            self._events.event(claim, "Warning", as_reason(error.reason, "LaunchFailed"), "Launch", error.message)

    async def _observe_or_create(self, claim: Claim) -> Instance:
        if is_true(claim.status.conditions, self._claims.launched):
            instance = await self._provider.observe(claim.metadata.name)
            if instance is not None and instance.uid in ("", claim.metadata.uid):
                return instance
        return await self._provider.begin_create(_launch_spec(claim))

    async def _register(self, claim: Claim, instance: Instance, progress: Progress) -> Node | None:
        nodes = [node for node in await self._nodes(claim) if self._provider.is_node_of(instance, node)]
        if len(nodes) != 1:
            names = ", ".join(node.metadata.name for node in nodes)
            reason, message = (
                ("MultipleNodesFound", f"several nodes claim {instance.provider_id}: {names}; delete all but one")
                if nodes
                else ("NodeNotFound", f"instance {instance.provider_id} runs; its node has not joined the cluster yet")
            )
            progress.unmet(self._claims.registered, reason, message, final=bool(nodes))
            return None
        if nodes[0].metadata.deletion_timestamp is not None:
            progress.lost("NodeDeleted", f"node {nodes[0].metadata.name} is being deleted")
            return None
        node = await register(self._client, nodes[0], claim)
        progress.registered(node)
        return node

    async def _initialize(self, node: Node, progress: Progress) -> Result:
        fault = initialization_fault(node, progress.claim)
        if fault is not None:
            progress.unmet(self._claims.initialized, *fault)
            return Result()
        await mark_initialized(self._client, node)
        progress.initialized()
        return Result()

    async def _nodes(self, claim: Claim) -> list[Node]:
        """Nodes that may be the claim's: providers name what joins after the claim, or label it with that name."""
        labelled = await self._client.list(Node, labels=f"{keys.AGENT_POOL_LABEL}={claim.metadata.name}")
        found = {node.metadata.name: node for node in labelled}
        for name in {claim.metadata.name, claim.status.node_name} - {"", *found}:
            try:
                found[name] = await self._client.get(Node, ObjectKey(name))
            except NotFound:
                continue
        return list(found.values())


def _launch_spec(claim: Claim) -> LaunchSpec:
    storage = claim.spec.resources.requests.get("storage", "0")
    return LaunchSpec(
        name=claim.metadata.name,
        uid=claim.metadata.uid,
        instance_type=instance_type_of(claim),
        labels={**claim.metadata.labels, keys.MACHINE_TYPE_LABEL: keys.MACHINE_TYPE_GPU},
        taints=tuple((taint.key, taint.value or "", taint.effect) for taint in claim.spec.taints),
        disk_gib=int(Quantity.parse(storage).value / GIBIBYTE.value),
    )
