"""ClaimRegistry: the claims of both wire kinds, found and deleted as one, whichever of them this process makes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from kaito.client.client import Client
from kaito.client.errors import Conflict, NotFound
from kaito.controllers.claims import CLAIM_KINDS, Claim, ClaimKind, kind_of
from kaito.kube.object_key import ObjectKey

DELETE_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class UnreadableClaim:
    """A claim that breaks its schema.

    Attributes:
        kind: its wire kind.
        name: its name.
        uid: its uid, as far as known.
    """

    kind: ClaimKind
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class FoundClaims:
    """Claims of both kinds, each once.

    Attributes:
        claims: those that can be read.
        unreadable: those that cannot.
    """

    claims: tuple[Claim, ...] = ()
    unreadable: tuple[UnreadableClaim, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The names of all of them."""
        return frozenset(each.metadata.name for each in self.claims) | {each.name for each in self.unreadable}

    def __add__(self, other: FoundClaims) -> FoundClaims:
        claims = {claim.metadata.uid: claim for claim in (*self.claims, *other.claims)}
        unreadable = {(each.kind.name, each.name): each for each in (*other.unreadable, *self.unreadable)}
        return FoundClaims(tuple(claims.values()), tuple(unreadable.values()))


class ClaimRegistry:
    """Finds and deletes claims.

    A cluster may have one of the two kinds only; and it may have claims of the kind that this process does not make,
    from when it ran with another ``--node-provisioner``. They are Workspaces' nodes all the same.

    Args:
        client: reads (from a cache) and writes.
        is_installed: whether the cluster has a kind, as far as known; what is read of one that it has not is nothing.
    """

    def __init__(self, client: Client, is_installed: Callable[[ClaimKind], bool] = lambda _kind: True) -> None:
        self._client = client
        self._is_installed = is_installed

    async def labelled(self, labels: str, *, live: bool = False) -> FoundClaims:
        """The claims that a label selector selects.

        Args:
            labels: the selector.
            live: read from the API server, past the cache.
        """
        found = FoundClaims()
        for kind in self._kinds(live):
            try:
                listed = await self._reader(live).list(kind.kind, labels=labels)
            except NotFound:
                continue
            unreadable = tuple(UnreadableClaim(kind, each.key.name, each.uid) for each in listed.unreadable)
            found += FoundClaims(tuple(listed), unreadable)
        return found

    async def named(self, names: Iterable[str], *, live: bool = False) -> FoundClaims:
        """The claims of these names, of which there may be one of each kind."""
        found = FoundClaims()
        for name in sorted(names):
            for kind in self._kinds(live):
                try:
                    claim: Claim = await self._reader(live).get(kind.kind, ObjectKey(name))
                except NotFound:
                    continue
                except ValidationError:
                    found += FoundClaims(unreadable=(UnreadableClaim(kind, name, ""),))
                else:
                    found += FoundClaims((claim,))
        return found

    async def delete(self, claim: Claim) -> None:
        """Deletes a claim, unless that was done; one that is gone is what was wanted.

        Only in a state that is known: an API server that has read a claim without a finalizer removes it at once, also
        when its controller has put one on and asked the cloud for an instance meanwhile. The uid does not tell that.

        Raises:
            Conflict: it changes all the time; reconcile again.
        """
        kind, uid = kind_of(claim), claim.metadata.uid
        for attempt in range(DELETE_ATTEMPTS):
            if claim.metadata.uid != uid or claim.metadata.deletion_timestamp is not None:
                return
            version = claim.metadata.resource_version
            try:
                await self._client.delete(kind.kind, claim.key, uid=uid, resource_version=version)
            except NotFound:
                return
            except Conflict:
                if attempt == DELETE_ATTEMPTS - 1:
                    raise
                try:
                    claim = await self._client.live.get(kind.kind, claim.key)
                except NotFound:
                    return
            else:
                return

    async def delete_unreadable(self, claim: UnreadableClaim) -> None:
        """Deletes a claim of which nothing but its name can be read."""
        with contextlib.suppress(NotFound):
            await self._client.delete(claim.kind.kind, ObjectKey(claim.name), uid=claim.uid or None)

    def _kinds(self, live: bool) -> list[ClaimKind]:
        return [kind for kind in CLAIM_KINDS if live or self._is_installed(kind)]

    def _reader(self, live: bool) -> Client:
        return self._client.live if live else self._client
