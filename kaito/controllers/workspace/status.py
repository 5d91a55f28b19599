"""Report: a Workspace's status in the making, written once at the end of a reconcile, and only if it changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.workspace import WantedClaim, WorkspaceState
from kaito.client.client import Client
from kaito.controllers.turns import Step, tell_turns
from kaito.controllers.workspace.wanted import next_ordinal
from kaito.kube.conditions import find, set_condition
from kaito.kube.meta_v1 import Condition
from kaito.runtime.events import EventRecorder

MAX_MESSAGE = 1024


class Report:
    """What a reconcile found out about a Workspace. What it does not mention stays as it was.

    Args:
        workspace: as it was read.
        now: the time of what changes.
    """

    def __init__(self, workspace: Workspace, now: datetime) -> None:
        self._workspace = workspace
        self._now = now
        self._conditions = workspace.status.conditions
        self._fields: dict[str, Any] = {}

    def true(self, condition_type: str, reason: str, message: str = "") -> None:
        """A condition holds."""
        self._set(condition_type, "True", reason, message)

    def false(self, condition_type: str, reason: str, message: str) -> None:
        """A condition does not hold, and why."""
        self._set(condition_type, "False", reason, message)

    def unknown(self, condition_type: str, reason: str, message: str) -> None:
        """A condition cannot be told."""
        self._set(condition_type, "Unknown", reason, message)

    def says(self, condition_type: str, reason: str, message: str) -> bool:
        """Whether a condition says this already."""
        found = find(self._conditions, condition_type)
        return found is not None and (found.reason, found.message) == (reason, message[:MAX_MESSAGE])

    def claims(self, wanted: Sequence[WantedClaim]) -> None:
        """The claims that the Workspace is to have."""
        self._fields["nodeClaims"] = [claim.to_dict() for claim in wanted]
        ordinals = {claim.ordinal for claim in wanted}
        if any(claim.ordinal not in ordinals for claim in self._workspace.status.node_claims):
            self._fields["nextOrdinal"] = next_ordinal(self._workspace)

    def target(self, nodes: int) -> None:
        """How many nodes the Workspace is to have."""
        self._fields["targetNodeCount"] = nodes

    def worker_nodes(self, names: Sequence[str]) -> None:
        """The nodes that it has."""
        self._fields["workerNodes"] = sorted(names)

    def sum_up(self) -> None:
        """Computes WorkspaceReady, WorkspaceSucceeded and the state from ResourceReady and InferenceReady."""
        parts = [find(self._conditions, name) for name in (keys.RESOURCE_READY, keys.INFERENCE_READY)]
        blocking = next((part for part in parts if part is None or part.status != "True"), None)
        ready = all(part is not None and part.status == "True" for part in parts)
        for name in (keys.WORKSPACE_READY, keys.WORKSPACE_SUCCEEDED):
            if ready:
                self.true(name, "workspaceSucceeded", "workspace succeeds")
            else:
                message = blocking.message if blocking is not None else "being worked on"
                self.false(name, blocking.reason if blocking is not None else "workspacePending", message)
        self._fields["state"] = self._state(ready)

    async def save(self, client: Client) -> Workspace:
        """Writes the status if it differs from what was read; returns the Workspace as it is then.

        Raises:
            Conflict: somebody wrote meanwhile; reconcile again.
        """
        changed = self._changed()
        if not changed:
            return self._workspace
        metadata = {"resourceVersion": self._workspace.metadata.resource_version}
        patch = {"metadata": metadata, "status": changed}
        return await client.status.patch(type(self._workspace), self._workspace.key, patch)

    def tell(self, events: EventRecorder) -> None:
        """Says what the Workspace has come to, or has lost, since it was read; for after `save`."""
        nodes = find(self._conditions, keys.NODES_READY)
        steps = {
            keys.NODES_READY: Step("MakeNodes", nodes.message if nodes is not None and nodes.message else "ready"),
            keys.WORKSPACE_READY: Step("Serve", "the model is served"),
        }
        tell_turns(events, self._workspace, self._workspace.status.conditions, self._conditions, steps, final=False)

    @property
    def is_only_words(self) -> bool:
        """Whether nothing but messages of conditions would be written."""
        before = [(item.type, item.status, item.reason) for item in self._workspace.status.conditions]
        after = [(item.type, item.status, item.reason) for item in self._conditions]
        return self._changed().keys() == {"conditions"} and before == after

    def _changed(self) -> dict[str, Any]:
        before = self._workspace.status.to_dict()
        fields = {**self._fields, "observedGeneration": self._workspace.metadata.generation}
        changed = {name: value for name, value in fields.items() if before.get(name, _empty(value)) != value}
        conditions = [condition.to_dict() for condition in self._conditions]
        if conditions != before.get("conditions", []):
            changed["conditions"] = conditions
        return changed

    def _set(self, condition_type: str, status: str, reason: str, message: str) -> None:
        new = Condition.model_validate(
            {
                "type": condition_type,
                "status": status,
                "reason": reason,
                "message": message[:MAX_MESSAGE],
                "observedGeneration": self._workspace.metadata.generation,
            }
        )
        self._conditions = set_condition(self._conditions, new, self._now)

    def _state(self, ready: bool) -> WorkspaceState:
        if ready:
            return "Ready"
        return "NotReady" if self._workspace.status.state in ("Ready", "NotReady") else "Pending"


def _empty(value: object) -> object:
    return type(value)() if isinstance(value, (list, int, str)) else None
