"""Watch: what a controller reacts to beside its own objects; declared, so that RBAC follows from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, TypeAlias, TypeVar

from kaito.informers.handlers import InformerEvent
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource

R = TypeVar("R", bound=Resource)

EventFilter = Callable[[InformerEvent[R]], bool]
"""A predicate: pure, over the event's old and new object."""


class Watch(Generic[R]):
    """Another kind whose changes concern the controller's objects. Give exactly one of `map` and `references`.

    Args:
        kind: the class that is watched.
        map: from a changed object to the keys it concerns; asked for both the old and the new state. It may be async,
            and may fail: the event is then kept and tried again (`controller_map_errors_total` counts it), put together
            with newer ones of its object.
        references: from an object of the controller's kind to the names (or ``namespace/name``, or whatever `by`
            returns) of the watched objects that it refers to: an index and a map in one.
        by: with `references`, by what the watched object is referred to: one value or several; default its key, and
            a name alone then means the namespace of the object that refers to it.
        where: only events that pass are looked at.
        optional: the cluster may not have the kind: the controller works without it, and hears of it once it is there.

    Raises:
        ValueError: both or none of `map` and `references`.
    """

    def __init__(
        self,
        kind: type[R],
        *,
        map: Callable[[R], Iterable[ObjectKey] | Awaitable[Iterable[ObjectKey]]] | None = None,
        references: Callable[..., str | Iterable[str] | None] | None = None,
        by: Callable[[R], str | Iterable[str]] | None = None,
        where: EventFilter[R] | None = None,
        optional: bool = False,
    ) -> None:
        if (map is None) == (references is None):
            raise ValueError(f"Watch({kind.__name__}): give exactly one of map and references")
        self.kind = kind
        self.map = map
        self.references = references
        self.by = by or (lambda obj: str(obj.key))
        self.by_key = by is None and kind.resource_type.namespaced
        self.where = where
        self.optional = optional

    @property
    def index_name(self) -> str:
        """The name of the index that `references` makes on the controller's kind."""
        return f"references:{self.kind.resource_type.group_kind}:{id(self)}"


AnyWatch: TypeAlias = Watch[Any]
"""A watch of whatever kind: what a controller's list of watches holds."""


class Owned(Generic[R]):
    """A kind that a controller makes, with a filter: ``owns=[Owned(Deployment, where=generation_changed())]``.

    Args:
        kind: the class of what is made.
        where: only events that pass concern the owner; another owner always passes.
    """

    def __init__(self, kind: type[R], *, where: EventFilter[R] | None = None) -> None:
        self.kind = kind
        self.where = where


AnyOwned: TypeAlias = Owned[Any]
"""An owned kind: what a controller's list of them holds."""


def as_values(references: Callable[..., str | Iterable[str] | None]) -> Callable[[Resource], Iterable[str]]:
    """Makes a function that may return one value, several or none return several."""

    def values(obj: Resource) -> Iterable[str]:
        found = references(obj)
        if not found:
            return ()
        return (found,) if isinstance(found, str) else tuple(found)

    return values


def as_keys(values: Callable[[Resource], Iterable[str]]) -> Callable[[Resource], Iterable[str]]:
    """Names without a namespace are of objects in the namespace of the one that refers to them."""

    def keys(obj: Resource) -> Iterable[str]:
        own = obj.metadata.namespace
        return [name if own is None or "/" in name else f"{own}/{name}" for name in values(obj)]

    return keys
