"""ClaimRelease: gives claims back: those of a Workspace that goes, of one before it, and those wanted no more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from kaito.api import keys
from kaito.api.kaito_v1beta1 import Workspace
from kaito.client.client import Client
from kaito.client.errors import NotFound
from kaito.controllers.claim_registry import ClaimRegistry, FoundClaims
from kaito.controllers.claims import TERMINATING, Claim, MadeFor, made_for
from kaito.controllers.workspace.wanted import is_of
from kaito.kube.conditions import find
from kaito.kube.object_key import ObjectKey

log = logging.getLogger(__name__)

# A claim that was made a moment ago may be ahead of what is known of its Workspace.
ORPHAN_AGE = timedelta(seconds=30)
EPOCH = datetime.fromtimestamp(0, UTC)


class ClaimRelease:
    """Gives claims back.

    Claims without a Workspace's uid were made by somebody else, such as an upstream KAITO before us, and stay.

    Args:
        client: reads Workspaces.
        registry: finds and deletes claims.
        now: wall clock.
    """

    def __init__(self, client: Client, registry: ClaimRegistry, now: Callable[[], datetime]) -> None:
        self._client = client
        self._registry = registry
        self._now = now

    async def of(self, workspace: Workspace) -> list[str]:
        """Deletes all claims of a Workspace, those that cannot be read too.

        Returns:
            What is still there, each with what it waits for as far as known. Nothing only if the API server, not a
            cache alone, says so.
        """
        found = await self._of(workspace, live=False)
        if not found.names:
            found = await self._of(workspace, live=True)
        for claim in found.claims:
            await self._registry.delete(claim)
        for unreadable in found.unreadable:
            await self._registry.delete_unreadable(unreadable)
        return [
            *map(what_remains, found.claims),
            *(f"{each.kind.kind.__name__} {each.name}" for each in found.unreadable),
        ]

    async def of_earlier(self, workspace: Workspace) -> None:
        """Deletes the claims of an earlier Workspace of this one's name, whatever becomes of this one."""
        found = await self._registry.labelled(selector(workspace.key))
        others = [claim for claim in _alive(found, workspace.key) if not is_of(claim, workspace)]
        if not others:
            return
        # A node may hang on it: which Workspace is the earlier one is asked for past the cache.
        live = await self._client.live.get(Workspace, workspace.key)
        await self._delete([claim for claim in others if not is_of(claim, live)], "claim of an earlier workspace")

    async def of_unwanted(self, workspace: Workspace) -> Sequence[Claim]:
        """Deletes the claims of a Workspace that are not on its record, and returns them."""
        found = await self._registry.labelled(selector(workspace.key))
        others = _unwanted(workspace, [claim for claim in _alive(found, workspace.key) if is_of(claim, workspace)])
        if others:
            # A node may hang on it: what is wanted is asked for past the cache.
            live = await self._client.live.get(Workspace, workspace.key)
            others = _unwanted(live, others)
            await self._delete(others, "claim that is not wanted any more")
        return others

    async def of_nobody(self, key: ObjectKey) -> timedelta | None:
        """Deletes the claims of a Workspace that is gone, after a delay and a live read that confirms it.

        Returns:
            When to look again, because a claim is too young to be taken for an orphan.
        """
        orphans = _alive(await self._registry.labelled(selector(key)), key)
        unreadable = (await self._registry.labelled(f"{selector(key)},{keys.WORKSPACE_UID_LABEL}")).unreadable
        if not (orphans or unreadable) or not await self._is_gone(key):
            return None
        old = [claim for claim in orphans if self._now() - (claim.metadata.creation_timestamp or EPOCH) >= ORPHAN_AGE]
        await self._delete(old, "claim whose workspace is gone")
        for each in unreadable:
            await self._registry.delete_unreadable(each)
        return None if len(old) == len(orphans) else ORPHAN_AGE

    async def _of(self, workspace: Workspace, *, live: bool) -> FoundClaims:
        by_uid = await self._registry.labelled(f"{keys.WORKSPACE_UID_LABEL}={workspace.metadata.uid}", live=live)
        by_name = await self._registry.labelled(selector(workspace.key), live=live)
        missing = {wanted.name for wanted in workspace.status.node_claims} - by_uid.names - by_name.names
        recorded = await self._registry.named(missing, live=live)
        found = by_uid + FoundClaims(by_name.claims) + recorded
        return FoundClaims(tuple(claim for claim in found.claims if is_of(claim, workspace)), found.unreadable)

    async def _delete(self, claims: Sequence[Claim], what: str) -> None:
        for claim in claims:
            log.warning("removing a claim", extra={"claim": claim.metadata.name, "why": what})
            await self._registry.delete(claim)

    async def _is_gone(self, key: ObjectKey) -> bool:
        try:
            await self._client.live.get(Workspace, key)
        except NotFound as error:
            # Without a reason it is the whole kind that the server does not know, which says nothing of one object.
            return error.reason == "NotFound"
        return False


def selector(key: ObjectKey) -> str:
    """The label selector of the claims of a Workspace of this name, whenever it lived."""
    return f"{keys.WORKSPACE_LABEL}={key.name},{keys.WORKSPACE_NAMESPACE_LABEL}={key.namespace}"


def what_remains(claim: Claim) -> str:
    """A claim by kind and name, and what holds its deletion up."""
    root = find(claim.status.conditions, keys.READY)
    why = f" ({root.message})" if root is not None and root.reason == TERMINATING else ""
    return f"{claim.kind} {claim.metadata.name}{why}"


def _alive(found: FoundClaims, key: ObjectKey) -> list[Claim]:
    """Claims of ours that were made for a Workspace of this name, whatever the labels by which they were found."""
    return [
        claim for claim in found.claims if claim.metadata.deletion_timestamp is None and _is_for(made_for(claim), key)
    ]


def _is_for(owner: MadeFor, key: ObjectKey) -> bool:
    return bool(owner.uid) and (owner.namespace, owner.name) == (key.namespace, key.name)


def _unwanted(workspace: Workspace, claims: Sequence[Claim]) -> list[Claim]:
    kept = {wanted.name for wanted in workspace.status.node_claims}
    return [claim for claim in claims if claim.metadata.name not in kept]
