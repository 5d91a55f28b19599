"""Store: the objects, one resourceVersion that counts all writes, and the history that watches and pages read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from kaito.testing.fake_api.failures import Failure, Json, expired, too_large_version

FIRST_VERSION = 100
"""Where resourceVersions begin: "0" means "any", and a real server has written a few before its first client comes."""

HISTORY = 50_000
"""Events kept before the oldest are compacted."""


class Key(NamedTuple):
    """Where an object is stored. Sorting sorts as etcd does: by ``namespace/name`` within a collection."""

    collection: str
    path: str

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.path.rpartition("/")[2]

    @property
    def namespace(self) -> str:
        """metadata.namespace; empty for cluster-scoped objects."""
        return self.path.rpartition("/")[0]


class Event(NamedTuple):
    """One committed write. A deletion's object carries the resourceVersion of the deletion."""

    version: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    key: Key
    object: Json
    previous: Json | None


Subscriber: TypeAlias = Callable[[Event], None]


class Store:
    """Objects by key. Stored objects are shared and must not be changed: write a new one with `put`.

    Args:
        history: how many events are kept.
    """

    def __init__(self, *, history: int = HISTORY) -> None:
        self.version = FIRST_VERSION
        self._history_limit = history
        self._collections: dict[str, dict[Key, Json]] = {}
        self._events: list[Event] = []
        self._compacted = FIRST_VERSION
        self._subscribers: dict[int, Subscriber] = {}
        self._subscribed = 0

    def get(self, key: Key) -> Json | None:
        """The object of that key."""
        return self._collections.get(key.collection, {}).get(key)

    def put(self, key: Key, obj: Json) -> Json:
        """Stores an object under the next resourceVersion and returns it with that."""
        previous = self.get(key)
        self.version += 1
        stored = _stamped(obj, self.version)
        self._collections.setdefault(key.collection, {})[key] = stored
        self._commit(Event(self.version, "MODIFIED" if previous else "ADDED", key, stored, previous))
        return stored

    def remove(self, key: Key, final: Json | None = None) -> Json:
        """Removes an object and returns it as watchers see it last.

        Args:
            key: which.
            final: its last state, if that was never stored.
        """
        previous = self._collections[key.collection].pop(key)
        self.version += 1
        gone = _stamped(final or previous, self.version)
        self._commit(Event(self.version, "DELETED", key, gone, previous))
        return gone

    def select(self, collection: str, namespace: str = "") -> list[tuple[Key, Json]]:
        """The objects of a collection (in a namespace), sorted."""
        return _within(self._collections.get(collection, {}), namespace)

    def everything(self) -> list[tuple[Key, Json]]:
        """All objects, sorted by collection and path."""
        return sorted(
            ((key, obj) for objects in self._collections.values() for key, obj in objects.items()),
            key=lambda item: item[0],
        )

    def select_at(self, version: int, collection: str, namespace: str = "") -> list[tuple[Key, Json]]:
        """The same, as they were at a resourceVersion.

        Raises:
            Failure: 410, it was compacted; 504, it does not exist yet.
        """
        objects = dict(self._collections.get(collection, {}))
        for event in reversed(self.since(version)):
            if event.key.collection != collection:
                continue
            if event.previous is None:
                del objects[event.key]
            else:
                objects[event.key] = event.previous
        return _within(objects, namespace)

    def since(self, version: int) -> Sequence[Event]:
        """All events after a resourceVersion, in order.

        Raises:
            Failure: 410, some of them were compacted; 504, that version does not exist yet.
        """
        self.check_version(version)
        if version < self._compacted:
            raise self._too_old(version)
        return self._events[version - self._compacted :]

    def check_version(self, version: int) -> None:
        """Refuses a resourceVersion that nobody has written yet.

        Raises:
            Failure: 504.
        """
        if version > self.version:
            raise too_large_version(version, self.version)

    def compact(self, version: int | None = None) -> None:
        """Forgets all events up to a resourceVersion; default: all."""
        upto = self.version if version is None else min(version, self.version)
        if upto > self._compacted:
            del self._events[: upto - self._compacted]
            self._compacted = upto

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Calls back on every event from now on, within the write; returns what ends that."""
        self._subscribed += 1
        number = self._subscribed
        self._subscribers[number] = subscriber

        def unsubscribe() -> None:
            self._subscribers.pop(number, None)

        return unsubscribe

    def _commit(self, event: Event) -> None:
        self._events.append(event)
        if len(self._events) > self._history_limit:
            self.compact(self._compacted + len(self._events) // 10)
        for subscriber in list(self._subscribers.values()):
            subscriber(event)

    def _too_old(self, version: int) -> Failure:
        return expired(f"too old resource version: {version} ({self._compacted})")


def _within(objects: dict[Key, Json], namespace: str) -> list[tuple[Key, Json]]:
    return sorted(
        ((key, obj) for key, obj in objects.items() if not namespace or key.namespace == namespace),
        key=lambda item: item[0],
    )


def _stamped(obj: Json, version: int) -> Json:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}
