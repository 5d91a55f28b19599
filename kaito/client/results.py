"""What a client returns beside single objects: lists, outcomes of an apply, events of a watch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar, overload

from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)
R_co = TypeVar("R_co", bound=Resource, covariant=True)


class Unreadable(NamedTuple):
    """An object that matched a list but breaks its class's schema.

    Attributes:
        key: its key; without a name when not even its metadata can be read (a ``null`` among the items).
        uid: its uid, for a delete that means this very object; empty when that cannot be read.
    """

    key: ObjectKey
    uid: str


class ObjectList(Sequence[R_co]):
    """What a list returned.

    Attributes:
        resource_version: at which it was read.
        unreadable: objects that matched but break the class's schema; they are not among the items. Who concludes
            anything from what is *not* in a list has to look here too.
    """

    def __init__(self, items: Sequence[R_co], resource_version: str, unreadable: Sequence[Unreadable] = ()) -> None:
        self._items = tuple(items)
        self.resource_version = resource_version
        self.unreadable = tuple(unreadable)

    @overload
    def __getitem__(self, index: int) -> R_co: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[R_co]: ...
    def __getitem__(self, index: int | slice) -> R_co | Sequence[R_co]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[R_co]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"ObjectList({len(self)} at resourceVersion {self.resource_version})"


class Applied(NamedTuple, Generic[R]):
    """The outcome of an apply: the object as the server has it, and whether this request made it (201)."""

    object: R
    created: bool


class WatchEvent(NamedTuple, Generic[R]):
    """One event of a watch."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: R
