"""NodeSupply: the nodes of a Workspace: claims made for it, or existing nodes with its labels."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.workspace import WantedClaim
from kaito.client.client import Client
from kaito.client.errors import AlreadyExists, NotFound
from kaito.client.results import ObjectList, Unreadable
from kaito.controllers.claims import NOT_TAKEN_UP, Claim, ClaimKind, first_unmet
from kaito.controllers.machine.node import gpu_count, is_ready
from kaito.controllers.workspace.plan import Plan
from kaito.controllers.workspace.status import Report
from kaito.controllers.workspace.wanted import claim_request, is_of, wanted_claims
from kaito.kube.conditions import is_true
from kaito.kube.core_v1 import Node
from kaito.kube.object_key import ObjectKey
from kaito.kube.selectors import selector_predicate
from kaito.runtime.apply import NotOurs

log = logging.getLogger(__name__)

# A claim that was made a moment ago may be ahead of what is known of its Workspace.
ORPHAN_AGE = timedelta(seconds=30)
EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Supply:
    """How a Workspace's nodes are.

    Attributes:
        ready: whether the workload can run.
        reason: why not, CamelCase.
        message: why not, the first failing thing on the way.
        nodes: names of the nodes that there are.
        claimed: whether claims are made; otherwise nodes are existing ones.
        look_again: when to, though nothing may happen; None: only when something does.
    """

    ready: bool
    reason: str
    message: str
    nodes: tuple[str, ...]
    claimed: bool = True
    look_again: timedelta | None = None

    def describe(self, report: Report) -> None:
        """Sets the conditions about nodes."""
        types = [keys.RESOURCE_READY, keys.NODES_READY, *((keys.NODE_CLAIM_READY,) if self.claimed else ())]
        for condition_type in types:
            if not self.ready:
                report.false(condition_type, self.reason, self.message)
            else:
                report.true(condition_type, _READY_REASONS[condition_type], f"ready: {', '.join(self.nodes)}")
        report.worker_nodes(self.nodes)


_READY_REASONS = {
    keys.RESOURCE_READY: "workspaceResourceStatusSuccess",
    keys.NODES_READY: "NodesReady",
    keys.NODE_CLAIM_READY: "NodeClaimsReady",
}


class NodeSupply:
    """Makes and looks after the nodes of Workspaces.

    Args:
        client: reads (from a cache) and writes.
        claims: the wire kind of claims.
        now: wall clock.
    """

    def __init__(self, client: Client, claims: ClaimKind, now: Callable[[], datetime]) -> None:
        self._client = client
        self._claims = claims
        self._now = now
        # Claims that this process knows to have been there: one that is missing then is gone, not yet to be made.
        self._seen: set[str] = set()

    async def wanted(self, workspace: Workspace, plan: Plan) -> tuple[WantedClaim, ...]:
        """The claims that the Workspace is to have; to be persisted before `step` makes them."""
        found = await self._claims_of(workspace.key)
        names = {claim.metadata.name for claim in found} | {unreadable.key.name for unreadable in found.unreadable}
        self._seen |= names
        vanished = {wanted.name for wanted in workspace.status.node_claims} & self._seen - names
        self._seen -= vanished
        return wanted_claims(workspace, plan.nodes, found, self._now(), vanished)

    def asked_for(self, wanted: Sequence[WantedClaim]) -> Supply:
        """How the nodes are while their claims are only on record, or nobody has looked at them."""
        return self._not_ready(wanted[0].name, self._claims.launched, NOT_TAKEN_UP, ())

    async def step(self, workspace: Workspace, plan: Plan) -> Supply:
        """Makes the claims on record that there are not, and tells how far the nodes are.

        Raises:
            NotOurs: a claim of a wanted name belongs to somebody else.
        """
        if not plan.makes_nodes:
            return await self._existing(workspace, plan)
        found = await self._claims_of(workspace.key)
        by_name = {claim.metadata.name: claim for claim in found if is_of(claim, workspace)}
        await self._release_others(workspace, found)
        claims, waiting = [], []
        for wanted in workspace.status.node_claims:
            if wanted.name in by_name:
                claims.append(by_name[wanted.name])
            elif any(unreadable.key.name == wanted.name for unreadable in found.unreadable):
                return self._not_ready(wanted.name, keys.READY, "its status breaks its schema; delete it", ())
            elif wanted.not_before is not None and wanted.not_before > self._now():
                waiting.append(wanted)
            else:
                claims.append(await self._make(workspace, plan, wanted))
        return self._held_back(waiting) if waiting else await self._assess(claims, plan)

    async def release(self, workspace: Workspace) -> list[str]:
        """Deletes all claims of a Workspace, those that cannot be read too; returns what is still there."""
        found = await self._claims_of(workspace.key, f"{keys.WORKSPACE_UID_LABEL}={workspace.metadata.uid}")
        for claim in found:
            await self._delete(claim)
        for unreadable in found.unreadable:
            await self._delete_unreadable(unreadable)
        names = [claim.metadata.name for claim in found] + [unreadable.key.name for unreadable in found.unreadable]
        return [f"{self._claims.kind.__name__} {name}" for name in names]

    async def collect_orphans(self, key: ObjectKey) -> timedelta | None:
        """Deletes the claims of a Workspace that is gone, after a delay and a live read that confirms it.

        Returns:
            When to look again, because a claim is too young to be taken for an orphan.
        """
        found = await self._claims_of(key, keys.WORKSPACE_UID_LABEL)
        orphans = [claim for claim in found if claim.metadata.deletion_timestamp is None]
        if not (orphans or found.unreadable) or not await self._is_gone(key):
            return None
        old = [claim for claim in orphans if self._now() - (claim.metadata.creation_timestamp or EPOCH) >= ORPHAN_AGE]
        for claim in old:
            log.warning("removing a claim whose workspace is gone", extra={"claim": claim.metadata.name})
            await self._delete(claim)
        for unreadable in found.unreadable:
            await self._delete_unreadable(unreadable)
        return None if len(old) == len(orphans) else ORPHAN_AGE

    async def _is_gone(self, key: ObjectKey) -> bool:
        try:
            await self._client.live.get(Workspace, key)
        except NotFound as error:
            # Without a reason it is the whole kind that the server does not know, which says nothing of one object.
            return error.reason == "NotFound"
        return False

    async def _claims_of(self, key: ObjectKey, *more: str) -> ObjectList[Claim]:
        terms = (f"{keys.WORKSPACE_LABEL}={key.name}", f"{keys.WORKSPACE_NAMESPACE_LABEL}={key.namespace}", *more)
        try:
            found: ObjectList[Claim] = await self._client.list(self._claims.kind, labels=",".join(terms))
        except NotFound:
            # Where nodes are brought along, the CRD may not be installed, and nothing may wait for it.
            return ObjectList((), "")
        return found

    async def _make(self, workspace: Workspace, plan: Plan, wanted: WantedClaim) -> Claim:
        claim = self._claims.build(claim_request(workspace, plan, wanted))
        try:
            made: Claim = await self._client.create(claim)
        except AlreadyExists:
            made = await self._client.live.get(self._claims.kind, claim.key)
            if not is_of(made, workspace):
                raise NotOurs(
                    f"{claim.kind} {claim.metadata.name} exists and was not made for this Workspace: delete it"
                ) from None
            return made
        log.info("claim made", extra={"workspace": str(workspace.key), "claim": claim.metadata.name})
        return made

    async def _release_others(self, workspace: Workspace, found: Sequence[Claim]) -> None:
        """Deletes what is left of this name's past: claims of an earlier Workspace, or that are wanted no more.

        Claims without our uid label were made by somebody else, such as an upstream KAITO before us, and stay.
        """
        kept = {wanted.name for wanted in workspace.status.node_claims}
        others = [
            claim
            for claim in found
            if claim.metadata.name not in kept
            and claim.metadata.deletion_timestamp is None
            and keys.WORKSPACE_UID_LABEL in claim.metadata.labels
        ]
        if not others:
            return
        # A node may hang on it: what is wanted is asked for past the cache.
        live = await self._client.live.get(Workspace, workspace.key)
        kept = {wanted.name for wanted in live.status.node_claims}
        for claim in others:
            if claim.metadata.name not in kept:
                log.warning("removing a claim that is not wanted any more", extra={"claim": claim.metadata.name})
                await self._delete(claim)

    async def _delete(self, claim: Claim) -> None:
        if claim.metadata.deletion_timestamp is not None:
            return
        try:
            await self._client.delete(self._claims.kind, claim.key, uid=claim.metadata.uid)
        except NotFound:
            return

    async def _delete_unreadable(self, claim: Unreadable) -> None:
        with contextlib.suppress(NotFound):
            await self._client.delete(self._claims.kind, claim.key, uid=claim.uid)

    def _held_back(self, waiting: Sequence[WantedClaim]) -> Supply:
        first = min(waiting, key=lambda wanted: wanted.not_before or EPOCH)
        wait = max((first.not_before or EPOCH) - self._now(), timedelta(seconds=1))
        message = (
            f"{self._claims.kind.__name__} {first.name} is made in {wait.total_seconds():.0f} s: its node was lost "
            f"{first.incarnation} times; find out what takes nodes away"
        )
        return Supply(False, "NodeClaimNotReady", message, (), look_again=wait)

    def _not_ready(self, name: str, step: str, why: str, nodes: tuple[str, ...]) -> Supply:
        message = f"{self._claims.kind.__name__} {name}: {step} is not True: {why}"
        return Supply(False, "NodeClaimNotReady", message, nodes)

    async def _assess(self, claims: Sequence[Claim], plan: Plan) -> Supply:
        nodes = tuple(claim.status.node_name for claim in claims if claim.status.node_name)
        for claim in claims:
            if claim.metadata.deletion_timestamp is not None:
                return Supply(False, "NodeClaimNotReady", f"{claim.kind} {claim.metadata.name} is being deleted", nodes)
            if not is_true(claim.status.conditions, keys.READY):
                return self._not_ready(claim.metadata.name, *first_unmet(self._claims, claim), nodes)
        if len(nodes) < len(claims):
            return Supply(False, "NodeClaimNotReady", "a claim is ready and names no node", nodes)
        return await self._assess_nodes(nodes, plan, claimed=True)

    async def _assess_nodes(self, names: tuple[str, ...], plan: Plan, *, claimed: bool) -> Supply:
        for name in names:
            try:
                node = await self._client.get(Node, ObjectKey(name))
            except NotFound:
                return Supply(False, "NodeNotReady", f"node {name} is gone", names, claimed)
            if not is_ready(node):
                return Supply(False, "NodeNotReady", f"node {name} is not ready", names, claimed)
            if gpu_count(node) < plan.gpus_per_node:
                message = (
                    f"node {name} offers {gpu_count(node)} of {plan.gpus_per_node} {keys.GPU_RESOURCE}; "
                    f"is the NVIDIA device plugin running?"
                )
                return Supply(False, "NodePluginsNotReady", message, names, claimed)
        return Supply(True, "", "", names, claimed)

    async def _existing(self, workspace: Workspace, plan: Plan) -> Supply:
        matches = selector_predicate(workspace.resource.label_selector)
        nodes = [node for node in await self._client.list(Node) if matches(node.metadata.labels) and is_ready(node)]
        equipped = [node.metadata.name for node in nodes if gpu_count(node) >= plan.gpus_per_node]
        if len(equipped) >= plan.nodes:
            return Supply(True, "", "", tuple(equipped), claimed=False)
        names = tuple(node.metadata.name for node in nodes)
        if len(nodes) >= plan.nodes:
            return await self._assess_nodes(names, plan, claimed=False)
        wanted = ", ".join(f"{key}={value}" for key, value in plan.node_labels.items())
        message = (
            f"{len(nodes)} of {plan.nodes} ready nodes have the labels {wanted}: label some, "
            f"or set resource.instanceType to have nodes made"
        )
        return Supply(False, "NodeNotReady", message, names, claimed=False)
