"""Index: keys of a store by a value computed from each entry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from kaito.informers.entry import Entry

IndexFunction = Callable[[str, Entry], Iterable[str]]
"""From a key and its entry to the values under which the key is filed; must not raise."""

NAMESPACE_INDEX = "metadata.namespace"
OWNER_INDEX = "metadata.controller.uid"


class Index(Protocol):
    """Keys by value. Empty sets are dropped, so that past values cost nothing."""

    def keys(self, value: str) -> Collection[str]:
        """The keys under a value."""
        ...

    def put(self, key: str, old: Entry | None, new: Entry) -> None:
        """Files an entry, after taking out what it replaces."""
        ...

    def put_same(self, key: str, entry: Entry, other: Index) -> None:
        """Files an entry that another index of the same function has filed already."""
        ...

    def drop(self, key: str, old: Entry) -> None:
        """Takes a key out."""
        ...

    def empty_copy(self) -> Index:
        """An index of the same function with nothing in it."""
        ...


class EntryIndex:
    """An index whose function is pure and cheap: asked again for the old entry, it needs no memory of its own.

    Args:
        function: from key and entry to values.
    """

    def __init__(self, function: IndexFunction) -> None:
        self._function = function
        self._keys: dict[str, set[str]] = {}

    def keys(self, value: str) -> Collection[str]:
        """See `Index.keys`."""
        return self._keys.get(value, ())

    def put(self, key: str, old: Entry | None, new: Entry) -> None:
        """See `Index.put`."""
        if old is not None:
            self.drop(key, old)
        _file(self._keys, key, self._function(key, new))

    def put_same(self, key: str, entry: Entry, other: Index) -> None:
        """See `Index.put_same`."""
        self.put(key, None, entry)

    def drop(self, key: str, old: Entry) -> None:
        """See `Index.drop`."""
        _take_out(self._keys, key, self._function(key, old))

    def empty_copy(self) -> Index:
        """See `Index.empty_copy`."""
        return EntryIndex(self._function)


class ValueIndex:
    """An index whose function is somebody else's and may decode the object: what it said of each key is remembered.

    Args:
        function: from key and entry to values.
    """

    def __init__(self, function: IndexFunction) -> None:
        self._function = function
        self._keys: dict[str, set[str]] = {}
        self._values: dict[str, tuple[str, ...]] = {}

    def keys(self, value: str) -> Collection[str]:
        """See `Index.keys`."""
        return self._keys.get(value, ())

    def put(self, key: str, old: Entry | None, new: Entry) -> None:
        """See `Index.put`."""
        self._put(key, tuple(dict.fromkeys(self._function(key, new))))

    def put_same(self, key: str, entry: Entry, other: Index) -> None:
        """See `Index.put_same`."""
        if isinstance(other, ValueIndex):
            self._put(key, other._values.get(key, ()))
        else:
            self.put(key, None, entry)

    def drop(self, key: str, old: Entry) -> None:
        """See `Index.drop`."""
        _take_out(self._keys, key, self._values.pop(key, ()))

    def empty_copy(self) -> Index:
        """See `Index.empty_copy`."""
        return ValueIndex(self._function)

    def _put(self, key: str, values: tuple[str, ...]) -> None:
        before = self._values.get(key, ())
        if values == before:
            return
        _take_out(self._keys, key, before)
        if values:
            self._values[key] = values
        else:
            self._values.pop(key, None)
        _file(self._keys, key, values)


def namespace_index() -> Index:
    """An index of keys by namespace."""
    return EntryIndex(lambda key, entry: (key.rpartition("/")[0],))


def owner_index() -> Index:
    """An index of keys by the uid of the controlling owner."""
    return EntryIndex(lambda key, entry: () if entry.owner is None else (entry.owner.uid,))


def label_index(label: str) -> Index:
    """An index of keys by the value of a label."""
    return EntryIndex(lambda key, entry: [value for name, value in entry.labels if name == label])


def label_index_name(label: str) -> str:
    """The name of the index of a label."""
    return f"metadata.labels[{label}]"


def intersection(sets: Iterable[Collection[str]]) -> Iterable[str]:
    """The keys that all of these have; starts from the smallest."""
    smallest, *others = sorted(sets, key=len)
    return [key for key in smallest if all(key in other for other in others)]


def _file(keys: dict[str, set[str]], key: str, values: Iterable[str]) -> None:
    for value in values:
        keys.setdefault(value, set()).add(key)


def _take_out(keys: dict[str, set[str]], key: str, values: Iterable[str]) -> None:
    for value in values:
        found = keys.get(value)
        if found is None:
            continue
        found.discard(key)
        if not found:
            del keys[value]
