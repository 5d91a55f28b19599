"""NodeSupply: the nodes of a Workspace: claims made for it, or existing nodes with its labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.workspace import WantedClaim
from kaito.client.client import Client
from kaito.client.errors import AlreadyExists, NotFound
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


@dataclass(frozen=True, slots=True)
class Supply:
    """How a Workspace's nodes are.

    Attributes:
        ready: whether the workload can run.
        reason: why not, CamelCase.
        message: why not, the first failing thing on the way.
        nodes: names of the nodes that there are.
        claimed: whether claims are made; otherwise nodes are existing ones.
    """

    ready: bool
    reason: str
    message: str
    nodes: tuple[str, ...]
    claimed: bool = True

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
    """

    def __init__(self, client: Client, claims: ClaimKind) -> None:
        self._client = client
        self._claims = claims

    async def wanted(self, workspace: Workspace, plan: Plan) -> tuple[WantedClaim, ...]:
        """The claims that the Workspace is to have; to be persisted before `step` makes them."""
        return wanted_claims(workspace, plan.nodes, await self._claims_of(workspace.key))

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
        on_record = workspace.status.node_claims
        claims = [by_name.get(wanted.name) or await self._make(workspace, plan, wanted) for wanted in on_record]
        await self._release_others(workspace, found)
        return await self._assess(claims, plan)

    async def release(self, workspace: Workspace) -> list[str]:
        """Deletes all claims of a Workspace; returns what is still there."""
        remaining = [claim for claim in await self._claims_of(workspace.key) if is_of(claim, workspace)]
        for claim in remaining:
            await self._delete(claim)
        return [f"{claim.kind} {claim.metadata.name}" for claim in remaining]

    async def collect_orphans(self, key: ObjectKey) -> None:
        """Deletes the claims of a Workspace that is gone, after a live read has confirmed that."""
        orphans = [claim for claim in await self._claims_of(key) if keys.WORKSPACE_UID_LABEL in claim.metadata.labels]
        if all(claim.metadata.deletion_timestamp is not None for claim in orphans):
            return
        try:
            await self._client.live.get(Workspace, key)
        except NotFound:
            for claim in orphans:
                log.warning("removing a claim whose workspace is gone", extra={"claim": claim.metadata.name})
                await self._delete(claim)

    async def _claims_of(self, key: ObjectKey) -> Sequence[Claim]:
        labels = f"{keys.WORKSPACE_LABEL}={key.name},{keys.WORKSPACE_NAMESPACE_LABEL}={key.namespace}"
        try:
            found: Sequence[Claim] = await self._client.list(self._claims.kind, labels=labels)
        except NotFound:
            # Where nodes are brought along, the CRD may not be installed, and nothing may wait for it.
            return ()
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
