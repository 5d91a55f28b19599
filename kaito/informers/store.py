"""Store: the objects of one kind at rest, as compact entries over raw bytes; swapped on a relist, never emptied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from kaito.client.wire import Fields
from kaito.informers.entry import Entry, EntryReader, UnreadableObject
from kaito.informers.index import NAMESPACE_INDEX, Index, intersection, namespace_index

ChangeType = Literal["added", "updated", "deleted"]
Term = tuple[str, str]
"""An index's name and the value that is looked for in it."""


class Change(NamedTuple):
    """What happened to one key.

    Attributes:
        type: added, updated or deleted.
        key: store key, ``namespace/name`` or ``name``.
        old: the entry before; None for added.
        new: the entry after; None for deleted. For a deletion seen by a watch, `old` is the last state it sent.
    """

    type: ChangeType
    key: str
    old: Entry | None
    new: Entry | None


class StoreReader(Protocol):
    """What readers see of one store, or of several that are read as one."""

    def __len__(self) -> int: ...

    def __contains__(self, key: object) -> bool: ...

    @property
    def bytes(self) -> int:
        """Bytes of JSON that are stored."""
        ...

    @property
    def resource_version(self) -> int:
        """The version as of which everything here is at least."""
        ...

    def position(self, key: str) -> int:
        """The version as of which the object of a key is at least."""
        ...

    def get(self, key: str) -> Entry | None:
        """The entry under a key."""
        ...

    def items(self, namespace: str | None = None) -> list[tuple[str, Entry]]:
        """A snapshot, sorted by key; of one namespace if given."""
        ...

    def select(self, terms: Sequence[Term], namespace: str | None = None) -> list[tuple[str, Entry]]:
        """A snapshot of what all of these index terms have in common, sorted by key; of one namespace if given.

        Raises:
            KeyError: no such index.
        """
        ...

    def has_index(self, name: str) -> bool:
        """Whether an index of that name was added."""
        ...

    def add_index(self, name: str, index: Index) -> None:
        """Adds an index; at any time, what is stored is filed at once.

        Raises:
            ValueError: the name is taken.
        """
        ...


class Store:
    """The objects of one kind (in one scope), by key.

    One task writes (the informer's); any task of the same loop reads between its steps and always sees a whole state.

    Args:
        reader: makes entries of JSON; default one that takes any kind.
    """

    def __init__(self, reader: EntryReader | None = None) -> None:
        self._reader = reader or EntryReader()
        self._entries: dict[str, Entry] = {}
        self._indexes: dict[str, Index] = {}
        self.resource_version = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def position(self, key: str) -> int:
        """See `StoreReader.position`."""
        return self.resource_version

    def get(self, key: str) -> Entry | None:
        """See `StoreReader.get`."""
        return self._entries.get(key)

    def items(self, namespace: str | None = None) -> list[tuple[str, Entry]]:
        """See `StoreReader.items`."""
        if namespace is not None:
            return self.select((), namespace)
        return sorted(self._entries.items(), key=_first)

    def select(self, terms: Sequence[Term], namespace: str | None = None) -> list[tuple[str, Entry]]:
        """See `StoreReader.select`."""
        if namespace is not None:
            terms = (*terms, (NAMESPACE_INDEX, namespace))
            if NAMESPACE_INDEX not in self._indexes:
                # Made when first needed: an operator that never asks by namespace does not pay for it.
                self.add_index(NAMESPACE_INDEX, namespace_index())
        if not terms:
            return self.items()
        found = intersection([self._indexes[name].keys(value) for name, value in terms])
        return [(key, self._entries[key]) for key in sorted(found)]

    def has_index(self, name: str) -> bool:
        """See `StoreReader.has_index`."""
        return name in self._indexes

    def add_index(self, name: str, index: Index) -> None:
        """See `StoreReader.add_index`. The index belongs to the store from now on; it comes empty."""
        if name in self._indexes:
            raise ValueError(f"index {name!r} exists already")
        self._indexes[name] = index
        for key, entry in self._entries.items():
            index.put(key, None, entry)

    def put(self, raw: bytes | msgspec.Raw | Fields) -> tuple[Change, ...]:
        """Takes an ADDED or MODIFIED object in.

        Returns:
            Usually one change; a deletion and an addition when it was re-created under its name unseen; none for
            an event that the store has had already, or that a later one has overtaken.

        Raises:
            UnreadableObject: see `EntryReader.read`.
        """
        key, entry = self._reader.read(raw, self._entries)
        old = self._entries.get(key)
        if entry.rv < self.resource_version or entry is old:
            # Events of a watch come in the order of their versions (several may share one): this one was sent twice.
            return ()
        self._entries[key] = entry
        self.bytes += len(entry.raw) - (len(old.raw) if old is not None else 0)
        for index in self._indexes.values():
            index.put(key, old, entry)
        self.resource_version = entry.rv
        return tuple(_changes(key, old, entry))

    def remove(self, raw: bytes | msgspec.Raw | Fields) -> tuple[Change, ...]:
        """Takes a DELETED object out. Its last state, as the watch sent it, is the change's ``old``.

        Raises:
            UnreadableObject: see `EntryReader.read`.
        """
        key, last = self._reader.last_state(raw)
        # At the position it may be the next of several: what one lease held in etcd goes in one version.
        if last.rv < self.resource_version:
            return ()
        self.resource_version = last.rv
        old = self._entries.get(key)
        if old is None or old.uid != last.uid:
            return ()
        self._drop(key, old)
        return (Change("deleted", key, last, None),)

    def bookmark(self, resource_version: int) -> None:
        """The server says that everything up to here was sent."""
        self.resource_version = max(self.resource_version, resource_version)

    def replacement(self) -> Replacement:
        """Begins a relist: collect aside, then swap."""
        return Replacement(self)

    def _swap(self, entries: dict[str, Entry], indexes: dict[str, Index], resource_version: int) -> Iterator[Change]:
        """Puts new contents in place in one step; returns what changed, deletions first."""
        before = self._entries
        self._entries = entries
        added_meanwhile = self._indexes.keys() - indexes.keys()
        self._indexes = {name: indexes.get(name) or index.empty_copy() for name, index in self._indexes.items()}
        for name in added_meanwhile:
            for key, entry in entries.items():
                self._indexes[name].put(key, None, entry)
        self.bytes = sum(len(entry.raw) for entry in entries.values())
        # Set, not raised: a restored etcd starts over, and what it says now is what there is.
        self.resource_version = resource_version
        self._reader.forget()
        return difference(before, entries)

    def _drop(self, key: str, old: Entry) -> None:
        del self._entries[key]
        self.bytes -= len(old.raw)
        for index in self._indexes.values():
            index.drop(key, old)


class Replacement:
    """A list in the making. Readers go on seeing the old contents until `commit`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[str, Entry] = {}
        # Filed as the list comes in: all at once at the end, they would hold the loop.
        self._indexes = {name: index.empty_copy() for name, index in store._indexes.items()}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, raw: bytes | msgspec.Raw | Fields) -> None:
        """Adds an object; an entry that is stored already in this very version is used again.

        Raises:
            UnreadableObject: see `EntryReader.read`. What is stored under its key, if that could be read, is kept: that
                it is there is certain.
        """
        stored = self._store._entries
        try:
            key, entry = self._store._reader.read(raw, stored)
        except UnreadableObject as error:
            if (kept := stored.get(error.key)) is not None:
                self._file(error.key, kept)
            raise
        self._file(key, entry)

    def discard(self, raw: bytes | msgspec.Raw | Fields) -> None:
        """Takes an object out that was deleted while the list was being sent. Raises as `add`."""
        key, _ = self._store._reader.last_state(raw)
        old = self._entries.pop(key, None)
        if old is not None:
            for index in self._indexes.values():
                index.drop(key, old)

    def commit(self, resource_version: int) -> Iterator[Change]:
        """Swaps the store's contents; yields what changed: deletions first, then additions and updates."""
        return self._store._swap(self._entries, self._indexes, resource_version)

    def _file(self, key: str, entry: Entry) -> None:
        old = self._entries.get(key)
        self._entries[key] = entry
        same = self._store._entries.get(key) is entry
        for name, index in self._indexes.items():
            if same and old is None:
                index.put_same(key, entry, self._store._indexes[name])
            else:
                index.put(key, old, entry)


def difference(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> Iterator[Change]:
    """What leads from one state to another: deletions first, then additions and updates."""
    for key, old in before.items():
        new = after.get(key)
        if new is None or new.uid != old.uid:
            yield Change("deleted", key, old, None)
    for key, new in after.items():
        previous = before.get(key)
        if previous is None or previous.uid != new.uid:
            yield Change("added", key, None, new)
        elif previous.rv != new.rv:
            yield Change("updated", key, previous, new)


def _changes(key: str, old: Entry | None, new: Entry) -> Iterable[Change]:
    if old is None:
        yield Change("added", key, None, new)
    elif old.uid != new.uid:
        yield Change("deleted", key, old, None)
        yield Change("added", key, None, new)
    else:
        yield Change("updated", key, old, new)


def _first(item: tuple[str, Entry]) -> str:
    return item[0]
