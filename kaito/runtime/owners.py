"""Owner references: whose an object is, so that it goes when its owner goes, and its changes wake its controller."""

from __future__ import annotations

from typing import TypeVar

from kaito.client.errors import KubeError
from kaito.kube.meta_v1 import OwnerReference
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)


class AlreadyOwned(KubeError):
    """An object has a controlling owner, and it is another one.

    Attributes:
        owner: who controls it.
    """

    def __init__(self, message: str, owner: OwnerReference) -> None:
        super().__init__(message)
        self.owner = owner


def owner_reference(owner: Resource, *, controller: bool | None = None) -> OwnerReference:
    """The owner reference that has an object garbage-collected with its owner.

    It blocks the owner's deletion in the foreground until the object is gone.
    """
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


def with_owner(obj: R, owner: Resource, *, controller: bool = False) -> R:
    """The object with a reference to an owner; one that is there already is brought up to date, in its place.

    Args:
        obj: not changed.
        owner: read from the API server, so that it has a uid.
        controller: whether it is the one owner whose controller looks after the object.

    Raises:
        AlreadyOwned: it has another controlling owner; one of the same name that lived before is another one.
        ValueError: the garbage collector would delete the object at once, since it does not find the owner: it has no
            uid, or is in another namespace.
    """
    _check_place(obj, owner)
    existing = controller_of(obj)
    if controller and existing is not None and existing.uid != owner.metadata.uid:
        raise AlreadyOwned(
            f"{describe(obj)} is controlled by {existing.kind} {existing.name} (uid {existing.uid}), and so cannot "
            f"be by {describe(owner)} (uid {owner.metadata.uid})",
            existing,
        )
    reference = controller_reference(owner) if controller else owner_reference(owner)
    before = obj.metadata.owner_references
    draft = obj.edit()
    if any(each.uid == reference.uid for each in before):
        draft.metadata.owner_references = tuple(reference if each.uid == reference.uid else each for each in before)
    else:
        draft.metadata.owner_references = (*before, reference)
    return draft


def without_owner(obj: R, owner: Resource) -> R:
    """The object without references to an owner."""
    kept = tuple(each for each in obj.metadata.owner_references if each.uid != owner.metadata.uid)
    draft = obj.edit()
    draft.metadata.owner_references = kept
    return draft


def _check_place(obj: Resource, owner: Resource) -> None:
    if not owner.metadata.uid:
        raise ValueError(f"{describe(owner)} cannot own {describe(obj)}: it has no uid; create it, or read it, first")
    if not owner.resource_type.namespaced:
        return
    what = f"{describe(owner)} cannot own {describe(obj)}"
    if not obj.resource_type.namespaced:
        raise ValueError(f"{what}: it lies in a namespace, and a {obj.kind} in none; use a label, and a finalizer")
    if owner.metadata.namespace != obj.metadata.namespace:
        raise ValueError(f"{what}: an owner must be in the namespace of what it owns; use a label, and a finalizer")


def describe(obj: Resource) -> str:
    """Kind and key, for errors."""
    return f"{obj.resource_type.kind} {obj.key}"
