"""The tree of a Workspace from what was seen of it; pure."""

from __future__ import annotations

from datetime import datetime

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.cli.explain.pods import workload_parts
from kaito.cli.explain.seen import Seen
from kaito.cli.explain.supply import PATIENCE_S, supply_parts
from kaito.cli.explain.tree import Mark, Part
from kaito.kube.conditions import find, is_true

_PASSES = frozenset({"NodeClaimNotReady", "workspacePending", "WorkspaceInferenceStatusPending", "workspaceDeleted"})
"""Reasons of the Workspace's conditions that say only that it is being worked on."""
_NO_OPERATOR = "is the operator running, and does its log say why it does not? (kaito manager; docs/operator.md)"


def build(seen: Seen) -> Part:
    """The tree: the Workspace, the claims with their nodes, the workload with its pods and their containers."""
    supply = supply_parts(seen)
    supplied = all(part.mark in (Mark.OK, Mark.UNKNOWN) for part in supply)
    parts = (*supply, *workload_parts(seen, supplied=supplied))
    is_open = any(part.mark in (Mark.FAILED, Mark.UNDER_WAY) for part in parts)
    return _workspace(seen, is_open).holding(*parts)


def _workspace(seen: Seen, is_open: bool) -> Part:
    """The Workspace alone; what is not told by a part below it, it has to tell itself."""
    workspace = seen.workspace
    name = f"{workspace.metadata.namespace}/{workspace.metadata.name}"
    if workspace.metadata.deletion_timestamp is not None:
        return _deleted(seen, name)
    if workspace.status.observed_generation < workspace.metadata.generation:
        return _unseen(seen, name, is_open)
    if is_true(workspace.status.conditions, keys.WORKSPACE_READY):
        ready = find(workspace.status.conditions, keys.WORKSPACE_READY)
        return Part("Workspace", name, Mark.OK, f"ready{seen.lasting(ready.last_transition_time if ready else None)}")
    return _not_ready(seen, name, is_open)


def _deleted(seen: Seen, name: str) -> Part:
    """A Workspace that goes; what the operator waits for is in its condition."""
    workspace = seen.workspace
    since = workspace.metadata.deletion_timestamp
    late, lasting = seen.age(since) > PATIENCE_S, seen.lasting(since)
    if keys.WORKSPACE_FINALIZER not in workspace.metadata.finalizers:
        others = ", ".join(workspace.metadata.finalizers) or "nothing any more"
        says = f"is being deleted{lasting}; KAITO is done with it, it waits for {others}"
        advice = "whoever put that into metadata.finalizers takes it out, or you do"
        return Part("Workspace", name, Mark.FAILED if late else Mark.UNDER_WAY, says, advice if late else "")
    deleting = find(workspace.status.conditions, keys.WORKSPACE_DELETING)
    if deleting is not None:
        says = f"is being deleted{lasting}: {deleting.message.removeprefix('being deleted; ')}"
        return Part("Workspace", name, Mark.UNDER_WAY, says, tells_all=True)
    says = f"is being deleted{lasting}; the operator, which takes its finalizer away, has not looked at it yet"
    return Part("Workspace", name, Mark.FAILED if late else Mark.UNDER_WAY, says, _NO_OPERATOR if late else "")


def _unseen(seen: Seen, name: str, is_open: bool) -> Part:
    changed = _changed(seen.workspace)
    late = seen.age(changed) > PATIENCE_S
    says = "the operator has not looked at it yet" + (f"; changed{seen.since(changed)}" if changed else "")
    failed = late and not is_open
    return Part("Workspace", name, Mark.FAILED if failed else Mark.UNDER_WAY, says, _NO_OPERATOR if failed else "")


def _changed(workspace: Workspace) -> datetime | None:
    """When somebody changed what is wanted; a status that is written counts for nothing."""
    fields = workspace.metadata.to_dict().get("managedFields", ())
    times = [entry["time"] for entry in fields if "time" in entry and not entry.get("subresource")]
    if not times:
        return workspace.metadata.creation_timestamp
    return max(datetime.fromisoformat(each) for each in times)


def _not_ready(seen: Seen, name: str, is_open: bool) -> Part:
    conditions = [find(seen.workspace.status.conditions, each) for each in (keys.RESOURCE_READY, keys.INFERENCE_READY)]
    unmet = next((each for each in conditions if each is not None and each.status != "True"), None)
    if unmet is None:
        return Part("Workspace", name, Mark.UNDER_WAY, "not ready yet")
    says = f"{unmet.type} is {unmet.status} ({unmet.reason}): {unmet.message}"
    told_below = is_open and unmet.reason in (*_PASSES, "NodeNotReady", "NodePluginsNotReady")
    if unmet.reason in _PASSES or told_below:
        return Part("Workspace", name, Mark.UNDER_WAY, says)
    advice = "change what the message names; the operator then goes on by itself"
    return Part("Workspace", name, Mark.FAILED, says, advice)
