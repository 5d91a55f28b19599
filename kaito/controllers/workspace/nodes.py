"""NodeSupply: the nodes of a Workspace: claims made for it, or existing nodes with its labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.workspace import WantedClaim
from kaito.client.client import Client
from kaito.client.errors import AlreadyExists, NotFound
from kaito.controllers.claim_registry import ClaimRegistry, FoundClaims
from kaito.controllers.claims import NOT_TAKEN_UP, Claim, ClaimKind, first_unmet, kind_of
from kaito.controllers.machine.node import gpu_count, is_ready
from kaito.controllers.workspace.plan import Plan, own_selector
from kaito.controllers.workspace.release import EPOCH, selector, what_remains
from kaito.controllers.workspace.status import Report
from kaito.controllers.workspace.surplus import Surplus, find_surplus
from kaito.controllers.workspace.wanted import claim_request, is_of, wanted_claims
from kaito.kube.conditions import is_true
from kaito.kube.core_v1 import Node
from kaito.kube.object_key import ObjectKey
from kaito.kube.selectors import format_selector, selector_predicate
from kaito.runtime.apply import NotOurs
from kaito.runtime.events import EventRecorder

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
        look_again: when to, though nothing may happen; None: only when something does.
        note: what else to say of nodes that are ready.
    """

    ready: bool
    reason: str
    message: str
    nodes: tuple[str, ...]
    claimed: bool = True
    look_again: timedelta | None = None
    note: str = ""

    def describe(self, report: Report) -> None:
        """Sets the conditions about nodes."""
        types = [keys.RESOURCE_READY, keys.NODES_READY, *((keys.NODE_CLAIM_READY,) if self.claimed else ())]
        for condition_type in types:
            if not self.ready:
                report.false(condition_type, self.reason, self.message)
            else:
                said = f"ready: {', '.join(self.nodes)}" + (f"; {self.note}" if self.note else "")
                report.true(condition_type, _READY_REASONS[condition_type], said)
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
        registry: finds claims of both wire kinds: a claim on record keeps its place, whichever kind is made now.
        made: the wire kind of claims that are made; None: none are (``--node-provisioner byo``).
        now: wall clock.
        events: tells people what was done.
    """

    def __init__(
        self,
        client: Client,
        registry: ClaimRegistry,
        made: ClaimKind | None,
        now: Callable[[], datetime],
        events: EventRecorder,
    ) -> None:
        self._events = events
        self._client = client
        self._registry = registry
        self._made = made
        self._now = now
        # By Workspace, claims that this process knows to have been there: one that is missing then is gone, not yet to
        # be made. It counts for as long as it is on record, so that a save that fails forgets nothing.
        self._seen: dict[ObjectKey, frozenset[str]] = {}

    async def wanted(self, workspace: Workspace, plan: Plan) -> tuple[WantedClaim, ...]:
        """The claims that the Workspace is to have; to be persisted before `step` makes them."""
        recorded = _recorded(workspace)
        found = await self._claims_of(workspace)
        missing = self._seen.get(workspace.key, frozenset()) & recorded - found.names
        if missing:
            # Another node is paid for: what a list does not show any more is asked for by name, past the cache.
            live = await self._registry.named(missing, live=True)
            found += FoundClaims(_own(live, workspace), live.unreadable)
        self._seen[workspace.key] = found.names | (self._seen.get(workspace.key, frozenset()) & recorded)
        lost = missing - found.names
        surplus = await find_surplus(self._client, workspace, plan.nodes, _own(found, workspace), lost)
        return wanted_claims(workspace, plan.nodes, found.claims, self._now(), lost, surplus.released)

    def forget(self, key: ObjectKey) -> None:
        """Forgets what is remembered of a Workspace that is gone."""
        self._seen.pop(key, None)

    def asked_for(self, wanted: Sequence[WantedClaim]) -> Supply:
        """How the nodes are while their claims are only on record, or nobody has looked at them."""
        kind = _kind_made(self._made)
        return _not_ready(kind, wanted[0].name, kind.launched, NOT_TAKEN_UP, ())

    async def step(self, workspace: Workspace, plan: Plan) -> Supply:
        """Makes the claims on record that there are not, and tells how far the nodes are.

        Raises:
            NotOurs: a claim of a wanted name belongs to somebody else.
        """
        if not plan.makes_nodes:
            return await self._existing(workspace, plan)
        found = await self._claims_of(workspace)
        by_name = {claim.metadata.name: claim for claim in _own(found, workspace)}
        unreadable = {each.name: each for each in found.unreadable}
        claims, waiting = [], []
        for wanted in workspace.status.node_claims:
            if wanted.name in by_name:
                claims.append(by_name[wanted.name])
            elif wanted.name in unreadable:
                kind = unreadable[wanted.name].kind
                return _not_ready(kind, wanted.name, keys.READY, "its status breaks its schema; delete it", ())
            elif wanted.not_before is not None and wanted.not_before > self._now():
                waiting.append(wanted)
            else:
                claims.append(await self._make(workspace, plan, wanted))
        if waiting:
            return self._held_back(waiting)
        surplus = await find_surplus(self._client, workspace, plan.nodes, claims)
        supply = await self._assess([claim for claim in claims if claim.metadata.name in surplus.kept], plan)
        return replace(supply, nodes=_nodes_of(claims), note=_note(workspace, plan, surplus))

    async def _claims_of(self, workspace: Workspace) -> FoundClaims:
        """The claims with the Workspace's labels, and those on its record that have lost them."""
        found = await self._registry.labelled(selector(workspace.key))
        recorded = await self._registry.named(_recorded(workspace) - found.names)
        return found + FoundClaims(_own(recorded, workspace), recorded.unreadable)

    async def _make(self, workspace: Workspace, plan: Plan, wanted: WantedClaim) -> Claim:
        # Whatever the kind: what this process does not see may have been made by the one before it.
        existing = await self._registry.named([wanted.name], live=True)
        if not existing.names:
            claim = _kind_made(self._made).build(claim_request(workspace, plan, wanted))
            try:
                made: Claim = await self._client.create(claim)
            except AlreadyExists:
                existing = await self._registry.named([wanted.name], live=True)
            else:
                log.info("claim made", extra={"workspace": str(workspace.key), "claim": claim.metadata.name})
                note = f"{made.kind} {made.metadata.name} asks for a node {plan.sku.name if plan.sku else ''}".rstrip()
                self._events.event(workspace, "Normal", "NodeClaimCreated", "MakeNodes", note, related=made)
                return made
        own = _own(existing, workspace)
        if not own:
            kind = existing.claims[0].kind if existing.claims else _kind_made(self._made).kind.__name__
            raise NotOurs(f"{kind} {wanted.name} exists and was not made for this Workspace: delete it")
        return own[0]

    def _held_back(self, waiting: Sequence[WantedClaim]) -> Supply:
        first = min(waiting, key=lambda wanted: wanted.not_before or EPOCH)
        wait = max((first.not_before or EPOCH) - self._now(), timedelta(seconds=1))
        kind = _kind_made(self._made).kind.__name__
        message = (
            f"{kind} {first.name} is made in {wait.total_seconds():.0f} s: "
            f"its node was lost {first.incarnation} times; find out what takes nodes away"
        )
        return Supply(False, "NodeClaimNotReady", message, (), look_again=wait)

    async def _assess(self, claims: Sequence[Claim], plan: Plan) -> Supply:
        nodes = _nodes_of(claims)
        for claim in claims:
            if claim.metadata.deletion_timestamp is not None:
                return Supply(False, "NodeClaimNotReady", f"{what_remains(claim)} is being deleted", nodes)
            if not is_true(claim.status.conditions, keys.READY):
                kind = kind_of(claim)
                return _not_ready(kind, claim.metadata.name, *first_unmet(kind, claim), nodes)
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
        matches = selector_predicate(own_selector(workspace))
        nodes = [node for node in await self._client.list(Node) if matches(node.metadata.labels) and is_ready(node)]
        equipped = [node.metadata.name for node in nodes if gpu_count(node) >= plan.gpus_per_node]
        if len(equipped) >= plan.nodes:
            return Supply(True, "", "", tuple(equipped), claimed=False)
        names = tuple(node.metadata.name for node in nodes)
        if len(nodes) >= plan.nodes:
            return await self._assess_nodes(names, plan, claimed=False)
        wanted = format_selector(own_selector(workspace))
        instead = ", or set resource.instanceType to have nodes made" if self._made is not None else ""
        message = f"{len(nodes)} of {plan.nodes} ready nodes have the labels {wanted}: label some{instead}"
        return Supply(False, "NodeNotReady", message, names, claimed=False)


def _nodes_of(claims: Iterable[Claim]) -> tuple[str, ...]:
    return tuple(claim.status.node_name for claim in claims if claim.status.node_name)


def _note(workspace: Workspace, plan: Plan, surplus: Surplus) -> str:
    if surplus.held:
        return f"given back once no pod needs them: {', '.join(surplus.held)}"
    return plan.more_than_asked(workspace)


def _not_ready(kind: ClaimKind, name: str, step: str, why: str, nodes: tuple[str, ...]) -> Supply:
    message = f"{kind.kind.__name__} {name}: {step} is not True: {why}"
    return Supply(False, "NodeClaimNotReady", message, nodes)


def _kind_made(made: ClaimKind | None) -> ClaimKind:
    assert made is not None, "a plan that makes nodes needs a kind of claim"
    return made


def _recorded(workspace: Workspace) -> frozenset[str]:
    return frozenset(wanted.name for wanted in workspace.status.node_claims)


def _own(found: FoundClaims, workspace: Workspace) -> tuple[Claim, ...]:
    return tuple(claim for claim in found.claims if is_of(claim, workspace))
