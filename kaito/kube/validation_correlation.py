"""Which old value a new one is compared with, as the API server sees it: by field, by key, and by a list-map's keys.

An update is not refused for what it did not change (ratcheting, since Kubernetes 1.30 and for good since 1.33), and a
rule over ``oldSelf`` needs an old value. Both ask the same question: what was here before? Items of lists that are no
list-maps have no answer, for their place says nothing. Whether something changed is asked of the schema, too: the order
of a list-map says nothing either, and fields that no schema knows always count as changed.
"""

from __future__ import annotations

import json
import math
from typing import Any

from kaito.kube.validation_nodes import MISSING, Node


class Pair:
    """A value and what it was before.

    Attributes:
        new: the value now.
        old: the value before, of any type.
        node: the schema of both.
    """

    __slots__ = ("_by_key", "_is_unchanged", "new", "node", "old")

    def __init__(self, new: Any, old: Any, node: Node) -> None:
        self.new, self.old, self.node = new, old, node
        self._by_key: dict[Any, Any] | None = None
        self._is_unchanged: bool | None = None

    def field(self, name: str) -> Pair | None:
        """Returns the pair of a field or a key; None when one of the two lacks it."""
        node = self.node.child(name)
        if node is None or not isinstance(self.new, dict) or not isinstance(self.old, dict):
            return None
        return Pair(self.new[name], self.old[name], node) if name in self.new and name in self.old else None

    def item(self, index: int) -> Pair | None:
        """Returns the pair of an item of a list-map; None for those of other lists, and for new ones."""
        if not isinstance(self.old, list) or self.node.list_type != "map" or self.node.items is None:
            return None
        if self._by_key is None:
            # Of items with the same key the first counts.
            self._by_key = {_key(item, self.node.map_keys): item for item in reversed(self.old)}
        key = _key(self.new[index], self.node.map_keys)
        old = MISSING if key is None else self._by_key.get(key, MISSING)
        return None if old is MISSING else Pair(self.new[index], old, self.node.items)

    def is_unchanged(self) -> bool:
        """Whether nothing changed here and below, in the API server's sense."""
        if self._is_unchanged is None:
            self._is_unchanged = self._compare()
        return self._is_unchanged

    def _compare(self) -> bool:
        if isinstance(self.new, list) and isinstance(self.old, list):
            if len(self.new) != len(self.old):
                return False
            if self.node.list_type != "map":
                return identical(self.new, self.old)
            pairs = (self.item(index) for index in range(len(self.new)))
            return all(pair is not None and pair.is_unchanged() for pair in pairs)
        if isinstance(self.new, dict) and isinstance(self.old, dict):
            fields = (self.field(name) for name in self.new)
            return len(self.new) == len(self.old) and all(pair is not None and pair.is_unchanged() for pair in fields)
        return identical(self.new, self.old)


def identical(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, type by type: 1, 1.0 and true are three values. Never raises.

    A NaN, which is no JSON, is equal to itself, so that what stays as it was is never a change.
    """
    waiting = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        if isinstance(left, dict) and isinstance(right, dict):
            if left.keys() != right.keys():
                return False
            waiting.extend((value, right[name]) for name, value in left.items())
        elif isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
            if len(left) != len(right):
                return False
            waiting.extend(zip(left, right, strict=True))
        elif type(_as_read(left)) is not type(_as_read(right)) or (left is not right and left != right):
            return False
    return True


def _are_nan(*values: Any) -> bool:
    return all(isinstance(value, float) and math.isnan(value) for value in values)


def _as_read(value: Any) -> Any:
    """Whole numbers that are too long for 64 bits are floats to the API server."""
    return 0.0 if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def scalar_key(value: Any) -> tuple[str, Any]:
    """Returns what makes a value the same as another in a set; objects and lists go by their JSON. Never raises."""
    if isinstance(value, (dict, list, tuple)):
        try:
            return ("json", json.dumps(value, sort_keys=True, default=repr))
        except (TypeError, ValueError, RecursionError):
            return ("id", id(value))
    return (type(value).__name__, value)


def _key(item: Any, names: tuple[str, ...]) -> tuple[tuple[str, Any], ...] | None:
    """Returns the key of an item of a list-map; None when it has none that can be compared."""
    if not isinstance(item, dict):
        return None
    values = [item.get(name, MISSING) for name in names]
    if not all(isinstance(value, (bool, int, float, str)) for value in values):
        return None
    return tuple(scalar_key(value) for value in values)
