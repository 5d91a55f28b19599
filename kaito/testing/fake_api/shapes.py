"""Shapes: which lists of a kind are merged item by item, and which values are replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

Names: TypeAlias = tuple[str, ...]
"""Where a value stands: field names from the object's root, with ``*`` for any item of a list."""

Keys: TypeAlias = tuple[str, ...] | None
"""How a list is merged: by these fields of its items; ``()``: as a set of scalars; None: not at all (atomic)."""

KEY_DEFAULTS: Mapping[str, str] = {"protocol": "TCP"}
"""Fields that are part of a key and have a default on the server."""

_METADATA_LISTS: Mapping[str, Names] = {"finalizers": (), "ownerReferences": ("uid",)}
_CONTAINER_LISTS = frozenset({"containers", "initContainers", "ephemeralContainers"})
_BUILT_IN_LISTS: Mapping[str, Names] = {
    "addresses": ("type",),
    "claims": ("name",),
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
_ATOMIC_MAPS = frozenset(
    {
        "configMapKeyRef",
        "fieldRef",
        "labelSelector",
        "namespaceSelector",
        "nodeSelector",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "resourceFieldRef",
        "secretKeyRef",
        "secretRef",
        "selector",
    }
)


class Shape(Protocol):
    """What an API server knows of a kind's schema for merging."""

    def list_keys(self, names: Names) -> Keys:
        """How the list that stands there is merged."""
        ...

    def is_atomic(self, names: Names) -> bool:
        """Whether the map that stands there is replaced as a whole."""
        ...


class BuiltInShape:
    """The built-in kinds that an operator uses; goes by field names, which mean the same in all of them."""

    def list_keys(self, names: Names) -> Keys:
        """See `Shape.list_keys`."""
        name = names[-1]
        if len(names) >= 2 and names[-2] == "metadata":
            return _METADATA_LISTS.get(name)
        if name == "ports":
            if len(names) >= 3 and names[-3] in _CONTAINER_LISTS:
                return ("containerPort", "protocol")
            return ("port", "protocol") if names == ("spec", "ports") else None
        return _BUILT_IN_LISTS.get(name)

    def is_atomic(self, names: Names) -> bool:
        """See `Shape.is_atomic`."""
        return bool(names) and names[-1] in _ATOMIC_MAPS and names[0] in ("spec", "template")


class DeclaredShape:
    """Custom resources: lists are atomic but for those declared, as in a CRD without ``x-kubernetes-list-type``.

    Args:
        merge_keys: dotted path of a list (``*`` for the items of a list on the way) to the keys of its items;
            ``()`` for a set.
        atomic: dotted paths of atomic maps.
    """

    def __init__(self, merge_keys: Mapping[str, Names] | None = None, atomic: tuple[str, ...] = ()) -> None:
        self._keys = {tuple(path.split(".")): keys for path, keys in (merge_keys or {}).items()}
        self._atomic = {tuple(path.split(".")) for path in atomic}

    def list_keys(self, names: Names) -> Keys:
        """See `Shape.list_keys`."""
        if names[:-1] == ("metadata",):
            return _METADATA_LISTS.get(names[-1])
        return self._keys.get(names)

    def is_atomic(self, names: Names) -> bool:
        """See `Shape.is_atomic`."""
        return names in self._atomic


def shape_of_schema(schema: Mapping[str, Any]) -> DeclaredShape:
    """Reads ``x-kubernetes-list-type``, ``-list-map-keys`` and ``-map-type`` of a CRD's schema."""
    keys: dict[str, Names] = {}
    atomic: list[str] = []
    _walk(schema, (), keys, atomic)
    return DeclaredShape(keys, tuple(atomic))


def _walk(schema: Mapping[str, Any], names: Names, keys: dict[str, Names], atomic: list[str]) -> None:
    path = ".".join(names)
    match schema.get("x-kubernetes-list-type"):
        case "map":
            keys[path] = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        case "set":
            keys[path] = ()
    if schema.get("x-kubernetes-map-type") == "atomic":
        atomic.append(path)
    for name, child in schema.get("properties", {}).items():
        _walk(child, (*names, name), keys, atomic)
    if isinstance(items := schema.get("items"), Mapping):
        _walk(items, (*names, "*"), keys, atomic)
