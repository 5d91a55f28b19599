"""PartitionedStore: the stores of several namespaces, read as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kaito.informers.entry import Entry
from kaito.informers.index import Index
from kaito.informers.store import Store, Term


class PartitionedStore:
    """Reads over one store per namespace. Implements `kaito.informers.store.StoreReader`.

    Each namespace is listed and watched apart, so each has a position of its own.
    """

    def __init__(self) -> None:
        self._stores: dict[str, Store] = {}
        self._indexes: dict[str, Index] = {}

    def __len__(self) -> int:
        return sum(map(len, self._stores.values()))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    @property
    def stores(self) -> Mapping[str, Store]:
        """The stores by namespace."""
        return self._stores

    @property
    def bytes(self) -> int:
        """See `StoreReader.bytes`."""
        return sum(store.bytes for store in self._stores.values())

    @property
    def resource_version(self) -> int:
        """See `StoreReader.resource_version`."""
        return min((store.resource_version for store in self._stores.values()), default=0)

    def position(self, key: str) -> int:
        """See `StoreReader.position`; 0 for a namespace that is not here."""
        store = self._store_of(key)
        return store.resource_version if store is not None else 0

    def get(self, key: str) -> Entry | None:
        """See `StoreReader.get`."""
        store = self._store_of(key)
        return store.get(key) if store is not None else None

    def items(self, namespace: str | None = None) -> list[tuple[str, Entry]]:
        """See `StoreReader.items`."""
        return self._gather(namespace, Store.items)

    def select(self, terms: Sequence[Term], namespace: str | None = None) -> list[tuple[str, Entry]]:
        """See `StoreReader.select`."""
        return self._gather(namespace, lambda store: store.select(terms))

    def has_index(self, name: str) -> bool:
        """See `StoreReader.has_index`."""
        return name in self._indexes

    def add_index(self, name: str, index: Index) -> None:
        """See `StoreReader.add_index`."""
        if name in self._indexes:
            raise ValueError(f"index {name!r} exists already")
        self._indexes[name] = index
        for store in self._stores.values():
            store.add_index(name, index.empty_copy())

    def add(self, namespace: str, store: Store) -> None:
        """Adds a namespace's store; it gets every index."""
        for name, index in self._indexes.items():
            store.add_index(name, index.empty_copy())
        self._stores[namespace] = store

    def remove(self, namespace: str) -> None:
        """Takes a namespace out."""
        del self._stores[namespace]

    def _store_of(self, key: str) -> Store | None:
        return self._stores.get(key.rpartition("/")[0])

    def _gather(
        self, namespace: str | None, read: Callable[[Store], list[tuple[str, Entry]]]
    ) -> list[tuple[str, Entry]]:
        if namespace is not None:
            store = self._stores.get(namespace)
            return read(store) if store is not None else []
        return sorted((item for store in self._stores.values() for item in read(store)), key=lambda item: item[0])
