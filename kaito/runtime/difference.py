"""Difference between what is wanted and what is: as the API server's schemas see it, not as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaito.kube.quantity import same_quantity

# What identifies an item of an associative list; the first key set that all items have.
_MERGE_KEYS: tuple[tuple[str, ...], ...] = (
    ("containerPort", "protocol"),
    ("port", "protocol"),
    ("containerPort",),
    ("mountPath",),
    ("name",),
    ("topologyKey", "whenUnsatisfiable"),
    ("uid",),
    ("type",),
    ("port",),
)
# Maps whose values are quantities: the server writes 1024Mi back as 1Gi.
_QUANTITY_MAPS = frozenset({"limits", "requests", "capacity", "allocatable", "hard"})
_QUANTITY_FIELDS = frozenset({"sizeLimit", "storage"})
# Maps that nobody defaults: a key that is not wanted is another's.
_EXACT_MAPS = frozenset({"limits", "requests", "nodeSelector", "matchLabels"})
# What the server leaves out where it is empty, False or 0 (Go's omitempty, and no pointer), as an intent may not.
_OMITTED_WHEN_ZERO = frozenset(
    {
        *("value", "readOnly", "subPath", "workingDir", "stdin", "stdinOnce", "tty", "initialDelaySeconds", "hostPort"),
        *("hostNetwork", "hostPID", "hostIPC", "nodeName", "hostname", "subdomain", "priorityClassName"),
        *("minReadySeconds", "paused", "publishNotReadyAddresses"),
    }
)
# Lists in metadata belong to many; items of others are no drift there.
_SHARED = frozenset({"ownerReferences", "finalizers"})


def differs(current: Any, wanted: Any, path: tuple[str, ...] = ()) -> bool:
    """Whether a wanted field is missing or has another value, or a wanted list has items that nobody wants.

    Fields that only `current` has are defaults or another's, and no difference; but for keys of the few maps that
    nobody defaults, such as a container's limits.

    Args:
        current: the object, or a part of it, as JSON.
        wanted: the intent for it, as JSON.
        path: where the part is in the object.
    """
    if isinstance(wanted, Mapping):
        if not isinstance(current, Mapping):
            # An empty wanted object is written back as nothing at all.
            return bool(wanted) or current is not None
        if _is_exact(path) and current.keys() - wanted.keys():
            return True
        current = _without_defaulted_requests(current, wanted)
        return any(differs(current.get(name), value, (*path, name)) for name, value in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        if current is None:
            return bool(wanted)
        return not isinstance(current, Sequence) or _lists_differ(current, wanted, path)
    if current == wanted or (current is None and not wanted and bool(path) and path[-1] in _OMITTED_WHEN_ZERO):
        return False
    return not (_is_quantity(path) and same_quantity(str(current), str(wanted)))


def without_strangers(current: Any, wanted: Any, path: tuple[str, ...] = ()) -> Any:
    """Returns `current` without the items, of lists and exact maps that are wanted, that the intent does not have."""
    if isinstance(wanted, Mapping) and isinstance(current, Mapping):
        if _is_exact(path):
            return {name: value for name, value in current.items() if name in wanted}
        return {
            name: without_strangers(value, wanted[name], (*path, name)) if name in wanted else value
            for name, value in current.items()
        }
    if not isinstance(wanted, (list, tuple)) or not isinstance(current, (list, tuple)) or _is_shared(path):
        return current
    keys = _merge_keys(current, wanted)
    if keys is None:
        return list(wanted)
    by_key = _by_key(wanted, keys)
    return [
        without_strangers(item, by_key[identity], path)
        for item in current
        if (identity := _identity(item, keys)) in by_key
    ]


def _lists_differ(current: Sequence[Any], wanted: Sequence[Any], path: tuple[str, ...]) -> bool:
    shared = _is_shared(path)
    if not shared and len(current) != len(wanted):
        return True
    keys = _merge_keys(current, wanted)
    if keys is not None:
        by_key = _by_key(current, keys)
        return any(differs(by_key.get(_identity(item, keys)), item, path) for item in wanted)
    if shared:
        return any(item not in current for item in wanted)
    return any(differs(ours, theirs, path) for ours, theirs in zip(current, wanted, strict=True))


def _without_defaulted_requests(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """A container's resources without the requests that the server made of limits, resource by resource."""
    limits, requests, own = current.get("limits"), current.get("requests"), wanted.get("requests")
    if not isinstance(limits, Mapping) or not isinstance(requests, Mapping) or not isinstance(own, Mapping):
        return current
    return {
        **current,
        "requests": {name: value for name, value in requests.items() if name in own or limits.get(name) != value},
    }


def _merge_keys(current: Sequence[Any], wanted: Sequence[Any]) -> tuple[str, ...] | None:
    items = [*current, *wanted]
    if not items or not all(isinstance(item, Mapping) for item in items):
        return None
    for keys in _MERGE_KEYS:
        if all(keys[0] in item for item in items) and _unique(current, keys) and _unique(wanted, keys):
            return keys
    return None


def _unique(items: Sequence[Mapping[str, Any]], keys: tuple[str, ...]) -> bool:
    return len({_identity(item, keys) for item in items}) == len(items)


def _by_key(items: Sequence[Mapping[str, Any]], keys: tuple[str, ...]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    return {_identity(item, keys): item for item in items}


def _identity(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[str, ...]:
    # protocol is the only key with a default.
    return tuple(str(item.get(key, "TCP" if key == "protocol" else "")) for key in keys)


def _is_shared(path: tuple[str, ...]) -> bool:
    return len(path) > 1 and path[-2] == "metadata" and path[-1] in _SHARED


def _is_exact(path: tuple[str, ...]) -> bool:
    return bool(path) and path[-1] in _EXACT_MAPS


def _is_quantity(path: tuple[str, ...]) -> bool:
    return (len(path) > 1 and path[-2] in _QUANTITY_MAPS) or (bool(path) and path[-1] in _QUANTITY_FIELDS)
