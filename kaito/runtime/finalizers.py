"""Finalizers: put on and taken off one by one, whoever else writes to the object at the same time."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from kaito.client.client import Client
from kaito.client.errors import Conflict, NotFound
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)

ATTEMPTS = 5

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = re.compile(rf"{_LABEL}(\.{_LABEL})*/(?=.{{1,63}}\Z)[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
# Custom resources take a domain alone too, and operators from before the rule have such.
_DOMAIN = re.compile(rf"(?=.{{1,63}}\Z){_LABEL}(\.{_LABEL})+")


async def ensure_finalizer(client: Client, obj: R, finalizer: str) -> R:
    """Puts a finalizer on, unless it is there; never on an object that is being deleted.

    Only in a state that is known: when somebody wrote meanwhile, the object is read anew, past any cache.

    Args:
        client: writes, and reads live.
        obj: as it was read; when it is being deleted, it is returned as it is.
        finalizer: ``domain/name`` (or, as in older operators, a domain).

    Returns:
        The object with the finalizer; what follows can rely on its deletion waiting.

    Raises:
        Conflict: its deletion began meanwhile, another took its place, or it changes all the time; reconcile again.
        NotFound: it is gone.
        ValueError: the finalizer's name is none.
    """
    _check(finalizer)
    if obj.metadata.deletion_timestamp is not None:
        return obj
    for attempt in range(ATTEMPTS):
        if finalizer in obj.metadata.finalizers:
            return obj
        try:
            return await _set(client, obj, (*obj.metadata.finalizers, finalizer))
        except Conflict:
            if attempt == ATTEMPTS - 1:
                raise
        live = await client.live.get(type(obj), obj.key)
        # Who asked for it takes it that the object lives: it may be about to pay for something.
        if live.metadata.uid != obj.metadata.uid or live.metadata.deletion_timestamp is not None:
            what = "is being deleted" if live.metadata.uid == obj.metadata.uid else "was made anew meanwhile"
            raise Conflict(f"{obj.kind} {obj.key} {what}; finalizer {finalizer} is not put on", status=409)
        obj = live
    raise AssertionError("the last attempt returns or raises")


async def drop_finalizer(client: Client, obj: Resource, finalizer: str) -> None:
    """Takes a finalizer off, however often it stands there; an object that is gone meanwhile is what was wanted.

    Args and writing as for `ensure_finalizer`.

    Raises:
        Conflict: the object changes all the time; reconcile again.
        ValueError: the finalizer's name is none.
    """
    _check(finalizer)
    uid = obj.metadata.uid
    for attempt in range(ATTEMPTS):
        kept = tuple(item for item in obj.metadata.finalizers if item != finalizer)
        if obj.metadata.uid != uid or len(kept) == len(obj.metadata.finalizers):
            return
        try:
            await _set(client, obj, kept)
            return
        except NotFound:
            return
        except Conflict:
            if attempt == ATTEMPTS - 1:
                raise
        try:
            obj = await client.live.get(type(obj), obj.key)
        except NotFound:
            return


async def _set(client: Client, obj: R, finalizers: tuple[str, ...]) -> R:
    # A merge patch replaces the list, so it must not be applied to a list that somebody else has changed.
    metadata: dict[str, Any] = {
        "finalizers": list(finalizers),
        "resourceVersion": obj.metadata.resource_version,
        "uid": obj.metadata.uid,
    }
    return await client.patch(type(obj), obj.key, {"metadata": metadata})


def _check(finalizer: str) -> None:
    if not (_QUALIFIED.fullmatch(finalizer) or _DOMAIN.fullmatch(finalizer)):
        raise ValueError(f"finalizer {finalizer!r}: expected DOMAIN/NAME, such as example.com/cleanup")
