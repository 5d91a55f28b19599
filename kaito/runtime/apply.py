"""Applying intent: makes an object be as wanted, writes nothing when it is, and touches nothing that is another's."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from kaito.client.client import Client
from kaito.client.errors import Conflict, Invalid, KubeError, NotFound
from kaito.kube.resource import Resource
from kaito.runtime.difference import differs, without_strangers
from kaito.runtime.metrics import RuntimeMetrics
from kaito.runtime.owners import controller_of, describe, with_owner

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)

INTENT_HASH_ANNOTATION = "kaito.sh/intent-hash"


class ApplyOutcome(Enum):
    """What applying an intent took."""

    UNCHANGED = "unchanged"
    CREATED = "created"
    UPDATED = "updated"


class AppliedIntent(NamedTuple, Generic[R]):
    """The object as it is now, and what it took."""

    object: R
    outcome: ApplyOutcome


class NotOurs(KubeError):
    """An object of the wanted name belongs to somebody else; it was not touched."""


class Applier:
    """Applies intents in the name of owners.

    Args:
        client: reads (from a cache, where the kind is declared) and writes.
        metrics: counts applies that changed nothing; None: nobody counts.
    """

    def __init__(self, client: Client, metrics: RuntimeMetrics | None = None) -> None:
        self._client = client
        self._metrics = metrics

    async def apply(self, wanted: R, owner: Resource) -> AppliedIntent[R]:
        """Makes the object be as wanted, and the owner's.

        "Nothing to do" is decided without a request: the intent's hash stands in an annotation of the object, and
        every wanted field is compared with the cached object, quantities by value. The first apply is without force;
        later ones are forced, and carry the uid, so that an object that vanished meanwhile is not made from half an
        intent. List items that others added below ``spec`` are drift, which no apply removes: an update does.

        Args:
            wanted: the intent: only fields that are meant. Owner reference and hash are added here.
            owner: whose it is.

        Raises:
            NotOurs: the name is taken by an object of another owner.
            AlreadyOwned: the intent itself names another controlling owner.
            ValueError: it cannot be this owner's, see `with_owner`.
            Conflict: it changed meanwhile; reconcile again.
        """
        intent = _with_owner(wanted, owner)
        try:
            current = await self._client.get(type(wanted), wanted.key)
        except NotFound:
            return await self._first(intent, owner)
        check_owner(current, owner)
        if current.metadata.deletion_timestamp is not None:
            raise Conflict(f"{describe(current)} is being deleted; it is made again when it is gone", status=409)
        if not _is_drifted(current, intent):
            return AppliedIntent(current, ApplyOutcome.UNCHANGED)
        return await self._again(intent, current)

    async def _first(self, intent: R, owner: Resource) -> AppliedIntent[R]:
        # An apply without force still adopts a foreign object whose fields do not differ: look first, past the cache.
        live = await self._live(intent)
        if live is not None:
            check_owner(live, owner)
        try:
            applied = await self._client.apply(intent)
        except Conflict as error:
            raise Conflict(f"{describe(intent)}: {error.message}", status=409, causes=error.causes) from error
        if not applied.created:
            check_owner(applied.object, owner)
        outcome = ApplyOutcome.CREATED if applied.created else ApplyOutcome.UPDATED
        return AppliedIntent(applied.object, outcome)

    async def _live(self, intent: R) -> R | None:
        try:
            return await self._client.live.get(type(intent), intent.key)
        except NotFound:
            return None

    async def _again(self, intent: R, current: R) -> AppliedIntent[R]:
        if not _is_drifted(repaired := _repaired(current, intent), intent):
            # Only what others added is in the way, which an apply would leave there.
            return AppliedIntent(await self._client.update(repaired), ApplyOutcome.UPDATED)
        draft = intent.edit()
        draft.metadata.uid = current.metadata.uid
        try:
            applied = (await self._client.apply(draft, force=True)).object
        except Invalid as error:
            # What the server says of another object under that name; of none at all it says Conflict.
            if any(cause.field == "metadata.uid" for cause in error.causes):
                raise Conflict(f"{describe(intent)} was made anew meanwhile", status=409) from error
            # A field that nobody wants can contradict one that is wanted (rollingUpdate beside Recreate), and an apply
            # leaves it where it is; an update does not.
            applied = await self._client.update(_replaced(current, intent))
        if applied.metadata.resource_version == current.metadata.resource_version and self._metrics is not None:
            self._metrics.unchanged_applies.labels(intent.resource_type.kind.lower()).inc()
        if _is_drifted(applied, intent):
            applied = await self._client.update(_repaired(applied, intent))
        log.info("object updated", extra={"kind": intent.kind, "object": str(intent.key)})
        return AppliedIntent(applied, ApplyOutcome.UPDATED)


def intent_hash(intent: Mapping[str, Any]) -> str:
    """A short hash of an intent's wire form; equal for equal intents, in whatever order."""
    return hashlib.sha256(msgspec.json.encode(intent, order="deterministic")).hexdigest()[:16]


def _with_owner(wanted: R, owner: Resource) -> R:
    draft = with_owner(wanted, owner, controller=True)
    annotations = {**wanted.metadata.annotations, INTENT_HASH_ANNOTATION: intent_hash(draft.to_dict())}
    draft.metadata.annotations = annotations
    return draft


def check_owner(obj: Resource, owner: Resource) -> None:
    """Raises `NotOurs` unless the owner controls an object; its text says whose the object is, and what to do."""
    found = controller_of(obj)
    if found is not None and found.uid == owner.metadata.uid:
        return
    whose = f"belongs to {found.kind} {found.name} (uid {found.uid})" if found else "has no controlling owner"
    raise NotOurs(
        f"{describe(obj)} exists and {whose}, not to {owner.kind} {owner.key} (uid {owner.metadata.uid}): "
        f"delete or rename it, or give the {owner.kind} another name"
    )


def _is_drifted(current: Resource, intent: Resource) -> bool:
    hashes = [obj.metadata.annotations.get(INTENT_HASH_ANNOTATION) for obj in (current, intent)]
    return hashes[0] != hashes[1] or differs(current.to_dict(), intent.to_dict())


def _repaired(current: R, intent: R) -> R:
    return type(current).model_validate(without_strangers(current.to_dict(), intent.to_dict()))


def _replaced(current: R, intent: R) -> R:
    """The object with the intent's content and nothing else; of its metadata everything stays."""
    wanted = intent.to_dict()
    before = current.to_dict()["metadata"]
    merged = {name: {**before.get(name, {}), **wanted["metadata"].get(name, {})} for name in ("labels", "annotations")}
    return type(current).model_validate({**wanted, "metadata": {**before, **merged}})
