"""Progress: the status of a claim in the making, written once at the end of a reconcile, and only if it changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kaito.api import keys
from kaito.client.client import Client
from kaito.controllers.claims import TERMINATING, Claim, ClaimKind, kind_of
from kaito.controllers.gpu_provisioner.provider import Instance
from kaito.controllers.turns import Step, tell_turns
from kaito.kube.conditions import Verdict, same_conditions
from kaito.kube.core_v1 import Node
from kaito.runtime.events import EventRecorder


class Progress:
    """What a reconcile found out about a claim.

    Args:
        kind: the claim's wire kind.
        claim: as it was read.
        now: the time of what changes.
    """

    def __init__(self, kind: ClaimKind, claim: Claim, now: datetime) -> None:
        self._kind = kind
        self._now = now
        self.claim = claim
        created = claim.metadata.creation_timestamp or now
        self._conditions = kind.conditions.initialize(claim.status.conditions, created, claim.metadata.generation)
        self._fields: dict[str, Any] = {}
        self._labels: dict[str, str] = {}
        self.is_lost = False

    def unmet(self, step: str, reason: str, message: str, final: bool = False) -> None:
        """A step is not taken: Unknown while it may still be, False when nothing will come of waiting."""
        verdict = Verdict("False" if final else "Unknown", reason, message)
        self._conditions = self._kind.conditions.set(
            self._conditions, step, verdict, self._now, self.claim.metadata.generation
        )

    def launched(self, instance: Instance) -> None:
        """The cloud has the instance."""
        self._met(self._kind.launched)
        self._fields["providerID"] = instance.provider_id
        if instance.capacity:
            self._fields["capacity"] = dict(instance.capacity)
        # What the user asked for stays; the cloud says the rest.
        self._labels = {
            name: value for name, value in instance.labels.items() if name not in self.claim.metadata.labels
        }

    def registered(self, node: Node) -> None:
        """The node has joined."""
        self._met(self._kind.registered)
        self._fields["nodeName"] = node.metadata.name
        if node.status.allocatable:
            self._fields["allocatable"] = dict(node.status.allocatable)

    def lost(self, reason: str, message: str) -> None:
        """The node, or what it runs on, is going away, and will not come back."""
        self.unmet(self._kind.registered, reason, message, final=True)
        self.is_lost = True

    def initialized(self) -> None:
        """Pods can use the node."""
        self._met(self._kind.initialized)

    async def save(self, client: Client) -> None:
        """Writes the cloud's labels and the status if they differ from what was read.

        Conditions of these kinds are plain lists, which a merge patch replaces: the patch carries the
        resourceVersion.

        Raises:
            Conflict: somebody wrote meanwhile; reconcile again.
        """
        before = self.claim.status.to_dict()
        changed: dict[str, Any] = {name: value for name, value in self._fields.items() if before.get(name) != value}
        if not same_conditions(self.claim.status.conditions, self._conditions):
            changed["conditions"] = [condition.to_dict() for condition in self._conditions]
        claim = self.claim
        if self._labels:
            claim = await client.patch(self._kind.kind, claim.key, _at(claim, {"labels": self._labels}))
        if changed:
            await client.status.patch(self._kind.kind, claim.key, {**_at(claim), "status": changed})

    def tell(self, events: EventRecorder) -> None:
        """Says which steps were taken, or cannot be, since the claim was read; for after `save`."""
        provider_id = self._fields.get("providerID", self.claim.status.provider_id)
        node = self._fields.get("nodeName", self.claim.status.node_name)
        steps = {
            self._kind.launched: Step("Launch", f"instance {provider_id} is there"),
            self._kind.registered: Step("Register", f"node {node} has joined"),
            self._kind.initialized: Step("Initialize", f"pods can use node {node}"),
        }
        tell_turns(events, self.claim, self.claim.status.conditions, self._conditions, steps, final=True)

    def _met(self, step: str) -> None:
        self._conditions = self._kind.conditions.set_true(
            self._conditions, step, self._now, self.claim.metadata.generation
        )


async def tell_held_up(client: Client, claim: Claim, now: datetime, message: str, *, is_drained: bool = False) -> bool:
    """Writes on a claim that is being deleted what its deletion waits for, unless that stands there.

    Args:
        client: writes.
        claim: as it was read.
        now: the time of what changes.
        message: for people.
        is_drained: whether its pods have gone, and it is the instance that is waited for.

    Returns:
        Whether anything was written.

    Raises:
        Conflict: somebody wrote meanwhile; reconcile again.
    """
    rules, generation = kind_of(claim).conditions, claim.metadata.generation
    drained = Verdict("True", keys.DRAINED) if is_drained else Verdict("False", "Draining", message)
    conditions = rules.set(claim.status.conditions, keys.DRAINED, drained, now, generation)
    if is_drained:
        verdict = Verdict("True", keys.INSTANCE_TERMINATING, message)
        conditions = rules.set(conditions, keys.INSTANCE_TERMINATING, verdict, now, generation)
    conditions = rules.overrule(conditions, Verdict("False", TERMINATING, message), now, generation)
    if same_conditions(claim.status.conditions, conditions):
        return False
    status = {"conditions": [condition.to_dict() for condition in conditions]}
    await client.status.patch(type(claim), claim.key, {**_at(claim), "status": status})
    return True


def _at(claim: Claim, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """A merge patch that holds only for the claim as it was read."""
    return {"metadata": {"resourceVersion": claim.metadata.resource_version, **(metadata or {})}}
