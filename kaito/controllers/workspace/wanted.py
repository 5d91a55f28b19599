"""Wanted claims: which claims a Workspace is to have, by names that are persisted first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.workspace import WantedClaim
from kaito.controllers.claims import Claim, ClaimRequest
from kaito.controllers.workspace.plan import Plan

DEFAULT_DISK_GIB = 100


def claim_name(workspace_uid: str, ordinal: int, incarnation: int) -> str:
    """``ws`` and 9 hex digits: 11 characters, since an AKS agent pool's name has at most 12.

    Args:
        workspace_uid: a re-created Workspace has another uid, so it inherits nothing.
        ordinal: which of the Workspace's nodes.
        incarnation: how often that node has been replaced.
    """
    digest = hashlib.sha256(f"{workspace_uid}/{ordinal}/{incarnation}".encode()).hexdigest()
    return f"ws{digest[:9]}"


def wanted_claims(workspace: Workspace, count: int, existing: Iterable[Claim]) -> tuple[WantedClaim, ...]:
    """Works out which claims are wanted: those that were before, and for what is going away, its successor. Pure.

    Args:
        workspace: with the claims that were persisted in its status.
        count: how many nodes.
        existing: the claims that there are.
    """
    going = {claim.metadata.name for claim in existing if claim.metadata.deletion_timestamp is not None}
    before = {claim.ordinal: claim for claim in workspace.status.node_claims}
    wanted = []
    for ordinal in range(count):
        claim = before.get(ordinal)
        incarnation = 0 if claim is None else claim.incarnation + (claim.name in going)
        name = claim_name(workspace.metadata.uid, ordinal, incarnation)
        wanted.append(WantedClaim(ordinal=ordinal, incarnation=incarnation, name=name))
    return tuple(wanted)


def claim_labels(workspace: Workspace) -> dict[str, str]:
    """Labels that tie a claim, and its node, to a Workspace."""
    return {
        keys.WORKSPACE_LABEL: workspace.metadata.name,
        keys.WORKSPACE_NAMESPACE_LABEL: workspace.metadata.namespace or "",
        keys.WORKSPACE_UID_LABEL: workspace.metadata.uid,
    }


def claim_request(workspace: Workspace, plan: Plan, wanted: WantedClaim) -> ClaimRequest:
    """What a wanted claim is to ask for."""
    assert plan.sku is not None
    return ClaimRequest(
        name=wanted.name,
        instance_type=workspace.resource.instance_type,
        disk_gib=round(plan.preset.disk_gib) or DEFAULT_DISK_GIB,
        labels={**plan.node_labels, **claim_labels(workspace)},
    )


def is_of(claim: Claim, workspace: Workspace) -> bool:
    """Whether a claim was made for this very Workspace, not for an earlier one of its name."""
    return claim.metadata.labels.get(keys.WORKSPACE_UID_LABEL) == workspace.metadata.uid


def missing(wanted: Sequence[WantedClaim], existing: Mapping[str, Claim]) -> list[WantedClaim]:
    """The wanted claims that there are not."""
    return [claim for claim in wanted if claim.name not in existing]
