"""Owner references, finalizers: how objects are tied to each other."""

from __future__ import annotations

from typing import Any, TypeVar

from kaito.client.client import Client
from kaito.client.errors import NotFound
from kaito.kube.meta_v1 import OwnerReference
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)


def owner_reference(owner: Resource, *, controller: bool | None = None) -> OwnerReference:
    """The owner reference that has an object garbage-collected with its owner."""
    return OwnerReference(
        api_version=owner.api_version,
        kind=owner.kind,
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        controller=controller,
        block_owner_deletion=True,
    )


def controller_reference(owner: Resource) -> OwnerReference:
    """The owner reference that makes an object the owner's, of which there is one, and has its controller see it."""
    return owner_reference(owner, controller=True)


def controller_of(obj: Resource) -> OwnerReference | None:
    """The controlling owner of an object, if it has one."""
    return next((owner for owner in obj.metadata.owner_references if owner.controller), None)


async def ensure_finalizer(client: Client, obj: R, finalizer: str) -> R:
    """Adds a finalizer unless it is there; never to an object being deleted.

    Raises:
        Conflict: the object changed meanwhile; reconcile again.
    """
    if finalizer in obj.metadata.finalizers or obj.metadata.deletion_timestamp is not None:
        return obj
    return await _set_finalizers(client, obj, (*obj.metadata.finalizers, finalizer))


async def drop_finalizer(client: Client, obj: Resource, finalizer: str) -> None:
    """Takes a finalizer away; an object that is gone meanwhile is what was wanted.

    Raises:
        Conflict: the object changed meanwhile; reconcile again.
    """
    if finalizer not in obj.metadata.finalizers:
        return
    try:
        await _set_finalizers(client, obj, tuple(item for item in obj.metadata.finalizers if item != finalizer))
    except NotFound:
        return


async def _set_finalizers(client: Client, obj: R, finalizers: tuple[str, ...]) -> R:
    # A merge patch replaces the list, so it must not be applied to a list that somebody else has changed.
    metadata: dict[str, Any] = {
        "finalizers": list(finalizers),
        "resourceVersion": obj.metadata.resource_version,
        "uid": obj.metadata.uid,
    }
    return await client.patch(type(obj), obj.key, {"metadata": metadata})
