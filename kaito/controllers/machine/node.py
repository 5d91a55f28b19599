"""A claim's Node: tied to the claim at registration, and looked over before pods may count on it."""

from __future__ import annotations

from typing import Any

from kaito.api import keys
from kaito.client.client import Client
from kaito.client.errors import Conflict
from kaito.controllers.claims import Claim
from kaito.kube.core_v1 import Node
from kaito.kube.meta_v1 import OwnerReference
from kaito.kube.quantity import Quantity
from kaito.runtime.owners import owner_reference

# Taken away by the cluster itself once the node works (karpenter's "known ephemeral taints").
EPHEMERAL_TAINTS = frozenset(
    {
        ("node.kubernetes.io/not-ready", "NoSchedule"),
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoSchedule"),
        ("node.cloudprovider.kubernetes.io/uninitialized", "NoSchedule"),
        (keys.UNREGISTERED_TAINT, "NoExecute"),
    }
)
# Requested of the machine, not of the node's allocatable.
_NOT_ALLOCATABLE = frozenset({"storage"})


async def register(client: Client, node: Node, claim: Claim) -> Node:
    """Ties a node to its claim: finalizer, owner, labels, taints. Writes only what is missing.

    Raises:
        Conflict: the node changes all the time; reconcile again.
    """
    try:
        return await _register(client, node, claim)
    except Conflict:
        # A node that joins is written by many: what the cache shows of it is seldom the newest.
        return await _register(client, await client.live.get(Node, node.key), claim)


def is_of(node: Node, claim: Claim) -> bool:
    """Whether a node is the claim's: registered for it, or (not registered yet) the instance launched for it."""
    owner = claim_owner(node)
    if owner is not None:
        return owner.uid == claim.metadata.uid
    return bool(claim.status.provider_id) and node.spec.provider_id == claim.status.provider_id


def claim_owner(node: Node) -> OwnerReference | None:
    """The claim, of whatever wire kind, for which a node is registered."""
    owners = node.metadata.owner_references
    return next((owner for owner in owners if owner.api_version.startswith("karpenter.sh/")), None)


async def mark_initialized(client: Client, node: Node) -> None:
    """Labels a node as usable."""
    if node.metadata.labels.get(keys.INITIALIZED_LABEL) != "true":
        await client.patch(Node, node.key, {"metadata": {"labels": {keys.INITIALIZED_LABEL: "true"}}})


def is_ready(node: Node) -> bool:
    """Whether the kubelet reports Ready."""
    return any(condition.type == "Ready" and condition.status == "True" for condition in node.status.conditions)


def not_ready(node: Node) -> str | None:
    """Why a node is not ready, as its kubelet, or who misses it, reports; None when it is."""
    if is_ready(node):
        return None
    reported = next((item for item in node.status.conditions if item.type == "Ready"), None)
    return (reported.message or reported.reason or "") if reported is not None else "its kubelet has not reported yet"


def gpu_count(node: Node) -> int:
    """GPUs that pods can have on a node."""
    return int(Quantity.parse(node.status.allocatable.get(keys.GPU_RESOURCE, "0")))


def initialization_fault(node: Node, claim: Claim) -> tuple[str, str] | None:
    """Why pods cannot use a node yet, as reason and message; None when they can (karpenter's order of tests)."""
    if (why := not_ready(node)) is not None:
        return "NodeNotReady", f"node {node.metadata.name} is not ready: {why}"
    startup = {(taint.key, taint.effect) for taint in claim.spec.startup_taints}
    for taint in node.spec.taints:
        if (taint.key, taint.effect) in startup:
            return "StartupTaintsExist", f"node {node.metadata.name} still has the startup taint {taint.key}"
        if (taint.key, taint.effect) in EPHEMERAL_TAINTS:
            return "KnownEphemeralTaintsExist", f"node {node.metadata.name} still has the taint {taint.key}"
    for name in {*claim.spec.resources.requests, keys.GPU_RESOURCE} - _NOT_ALLOCATABLE:
        if not Quantity.parse(node.status.allocatable.get(name, "0")):
            hint = "; is the NVIDIA device plugin running?" if name == keys.GPU_RESOURCE else ""
            return "ResourceNotRegistered", f"node {node.metadata.name} offers no {name} yet{hint}"
    return None


async def _register(client: Client, node: Node, claim: Claim) -> Node:
    patch = _registration(node, claim)
    if not patch:
        return node
    metadata = {**patch.pop("metadata", {}), "resourceVersion": node.metadata.resource_version}
    return await client.patch(Node, node.key, {"metadata": metadata, **patch})


def _registration(node: Node, claim: Claim) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if keys.TERMINATION_FINALIZER not in node.metadata.finalizers:
        metadata["finalizers"] = [*node.metadata.finalizers, keys.TERMINATION_FINALIZER]
    if not any(owner.uid == claim.metadata.uid for owner in node.metadata.owner_references):
        owners = [*node.metadata.owner_references, owner_reference(claim)]
        metadata["ownerReferences"] = [owner.to_dict() for owner in owners]
    labels = {
        **claim.metadata.labels,
        keys.REGISTERED_LABEL: "true",
        keys.ACCELERATOR_LABEL: keys.ACCELERATOR_NVIDIA,
        keys.MACHINE_TYPE_LABEL: keys.MACHINE_TYPE_GPU,
    }
    missing = {name: value for name, value in labels.items() if node.metadata.labels.get(name) != value}
    if missing:
        metadata["labels"] = missing
    patch: dict[str, Any] = {"metadata": metadata} if metadata else {}
    before = [taint.to_dict() for taint in node.spec.taints]
    # What kept pods away until the node was known has done its work.
    kept = [taint for taint in before if taint["key"] != keys.UNREGISTERED_TAINT]
    taints = [*kept, *_missing_taints(node, claim)]
    if taints != before:
        patch["spec"] = {"taints": taints}
    return patch


def _missing_taints(node: Node, claim: Claim) -> list[dict[str, Any]]:
    if node.metadata.labels.get(keys.DO_NOT_SYNC_TAINTS_LABEL) == "true":
        return []
    registered = node.metadata.labels.get(keys.REGISTERED_LABEL) == "true"
    # Startup taints are taken away by whoever waits for them: they are put on once.
    wanted = claim.spec.taints if registered else (*claim.spec.taints, *claim.spec.startup_taints)
    have = {(taint.key, taint.effect) for taint in node.spec.taints}
    return [taint.to_dict() for taint in wanted if (taint.key, taint.effect) not in have]
