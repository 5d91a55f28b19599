"""Wanted claims: which claims a Workspace is to have, by names that are persisted first."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.api.workspace import WantedClaim
from kaito.controllers.claims import Claim, ClaimRequest, MadeFor, made_for
from kaito.controllers.workspace.plan import Plan

DEFAULT_DISK_GIB = 100
FIRST_REPLACEMENT_DELAY = timedelta(seconds=5)
MAX_REPLACEMENT_DELAY = timedelta(minutes=10)
# A node that lived for so long was no part of a run-away.
LONG_LIFE = timedelta(minutes=30)


def claim_name(workspace_uid: str, ordinal: int, incarnation: int) -> str:
    """``ws`` and 9 hex digits: 11 characters, since an AKS agent pool's name has at most 12.

    Args:
        workspace_uid: a re-created Workspace has another uid, so it inherits nothing.
        ordinal: which of the Workspace's nodes.
        incarnation: how often that node has been replaced.
    """
    digest = hashlib.sha256(f"{workspace_uid}/{ordinal}/{incarnation}".encode()).hexdigest()
    return f"ws{digest[:9]}"


def wanted_claims(
    workspace: Workspace,
    count: int,
    existing: Sequence[Claim],
    now: datetime,
    vanished: Collection[str] = (),
    released: Collection[str] = (),
) -> tuple[WantedClaim, ...]:
    """Works out which claims are wanted: those that were before, for what goes its successor, and new ones. Pure.

    More than `count` are wanted while there are some that may not be released yet.

    Args:
        workspace: with the claims that were persisted in its status.
        count: how many nodes.
        existing: the claims that there are.
        now: wall clock.
        vanished: names of claims that there were, and are no more.
        released: names of claims that are wanted no more.
    """
    by_name = {claim.metadata.name: claim for claim in existing}
    wanted = []
    for recorded in workspace.status.node_claims:
        if recorded.name in released:
            continue
        if recorded.name in vanished or _is_going(by_name.get(recorded.name)):
            wanted.append(_successor(workspace, recorded, by_name.get(recorded.name), now))
        else:
            wanted.append(recorded)
    first = next_ordinal(workspace)
    for ordinal in range(first, first + count - len(wanted)):
        name = claim_name(workspace.metadata.uid, ordinal, 0)
        wanted.append(WantedClaim(ordinal=ordinal, incarnation=0, name=name))
    return tuple(wanted)


def next_ordinal(workspace: Workspace) -> int:
    """The lowest ordinal that no claim of a Workspace ever had: a name that was given back does not come again."""
    return max(workspace.status.next_ordinal, *(claim.ordinal + 1 for claim in workspace.status.node_claims), 0)


def replacement_delay(incarnation: int) -> timedelta:
    """How long a successor waits: the first not at all, then from 5 s doubling to 10 min.

    Whatever takes our nodes away as fast as we make them must not have us buy one every two seconds.
    """
    if incarnation < 2:
        return timedelta()
    doublings: int = 2 ** min(incarnation - 2, 16)
    return min(MAX_REPLACEMENT_DELAY, FIRST_REPLACEMENT_DELAY * doublings)


def _is_going(claim: Claim | None) -> bool:
    return claim is not None and claim.metadata.deletion_timestamp is not None


def _successor(workspace: Workspace, recorded: WantedClaim, claim: Claim | None, now: datetime) -> WantedClaim:
    incarnation = recorded.incarnation + 1
    name = claim_name(workspace.metadata.uid, recorded.ordinal, incarnation)
    successor = WantedClaim(ordinal=recorded.ordinal, incarnation=incarnation, name=name)
    made = claim.metadata.creation_timestamp if claim is not None else None
    if replacement_delay(incarnation) and (made is None or now - made < LONG_LIFE):
        return successor.model_copy(
            update={"not_before": (now + replacement_delay(incarnation)).replace(microsecond=0)}
        )
    return successor


def owner_of_claims(workspace: Workspace) -> MadeFor:
    """What ties a claim, and its node, to a Workspace."""
    return MadeFor(workspace.metadata.namespace or "", workspace.metadata.name, workspace.metadata.uid)


def claim_request(workspace: Workspace, plan: Plan, wanted: WantedClaim) -> ClaimRequest:
    """What a wanted claim is to ask for."""
    assert plan.sku is not None
    return ClaimRequest(
        name=wanted.name,
        # As the cloud writes it, whatever the user's capitals: labels of nodes are compared letter by letter.
        instance_type=plan.sku.name,
        disk_gib=round(plan.preset.disk_gib) or DEFAULT_DISK_GIB,
        labels={**plan.node_labels, **owner_of_claims(workspace).labels},
        annotations={keys.MADE_FOR_ANNOTATION: str(owner_of_claims(workspace))},
    )


def is_of(claim: Claim, workspace: Workspace) -> bool:
    """Whether a claim was made for this very Workspace, not for an earlier one of its name."""
    return made_for(claim).uid == workspace.metadata.uid
