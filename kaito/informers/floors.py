"""Floors: what this process knows to exist from its own writes, so that no cached read goes back behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from kaito.client import wire
from kaito.client.errors import TransportError
from kaito.client.middleware import Handler
from kaito.client.transport import Request, Response
from kaito.informers.entry import store_key
from kaito.informers.options import Selector
from kaito.informers.store import StoreReader
from kaito.kube.resource import ResourceType

# Subresources that are asked by POST, and change nothing of their object.
_NO_CHANGE = frozenset({"token"})


class Floor(NamedTuple):
    """What a cached read of one object must have reached.

    Attributes:
        rv: its resourceVersion, or the store's, must be at least this.
        gone_uid: an object of this uid must have disappeared.
        unknown: a write's outcome was lost; only a live read can tell.
    """

    rv: int = 0
    gone_uid: str = ""
    unknown: bool = False


class KindFloors:
    """The floors of one cached kind, by store key; those that its store has reached are dropped.

    Args:
        store: what reads of the kind see.
        covers: whether objects of a namespace can be there; those of others get no floor.
        selector: what an object must meet to be there; one that a write took out of it must disappear.
    """

    def __init__(
        self,
        store: StoreReader,
        covers: Callable[[str | None], bool] = lambda namespace: True,
        selector: Selector | None = None,
    ) -> None:
        self._store = store
        self._covers = covers
        self._selector = selector
        self._floors: dict[str, Floor] = {}
        self._is_behind = False

    def __bool__(self) -> bool:
        return bool(self._floors)

    def __len__(self) -> int:
        return len(self._floors)

    def get(self, key: str) -> Floor | None:
        """The floor of a key, if it has one."""
        return self._floors.get(key)

    def fall_behind(self) -> None:
        """A write has changed nobody knows which objects: only another list can tell."""
        self._is_behind = True

    def take_behind(self) -> bool:
        """Whether it has fallen behind since this was asked last; who asks makes the list."""
        behind, self._is_behind = self._is_behind, False
        return behind

    def pending(self, namespace: str | None = None) -> list[str]:
        """The keys (of a namespace) whose floors the store has not reached; drops those that it has."""
        prefix = f"{namespace}/" if namespace else ""
        return [key for key in list(self._floors) if key.startswith(prefix) and not self.reached(key)]

    def written(self, key: str, floor: Floor, raw: bytes) -> None:
        """Sets the floor that a write has given rise to.

        Args:
            key: of the object.
            floor: what holds where every object of the kind is cached.
            raw: the object after the write; empty if it is gone, or if that is unknown.
        """
        if self._is_covered(key):
            self.raise_to(key, self.seen_from_here(floor, raw))

    def seen_from_here(self, floor: Floor, raw: bytes) -> Floor:
        """The floor of an object that may not be selected: such a one is waited for to be gone. See `written`."""
        if self._selector is None or not raw:
            return floor
        if not self._selector.selects_labels(raw):
            return Floor(gone_uid=wire.decode_header(raw).metadata.uid)
        # What the server takes a field for (of an absent one, say) only the server knows: it is asked by the next read.
        return floor._replace(unknown=True) if self._selector.has_fields else floor

    def raise_to(self, key: str, floor: Floor) -> None:
        """Sets a key's floor, on top of the one that it has."""
        before = self._floors.get(key, Floor())
        # A store that has not seen an object come yet must not take its absence for its end.
        self._floors[key] = floor._replace(rv=max(floor.rv, before.rv))
        self.reached(key)

    def doubt(self, key: str) -> None:
        """Marks a floor that was waited for in vain: the next read is live."""
        if key in self._floors:
            self._floors[key] = self._floors[key]._replace(unknown=True)

    def settle(self, key: str, floor: Floor, known: Floor | None) -> None:
        """Puts what a live read found in the place of an unknown floor, unless a write raised another one meanwhile."""
        if self._floors.get(key) is not floor:
            return
        del self._floors[key]
        if known is not None:
            self.raise_to(key, known)

    def reached(self, key: str) -> bool:
        """Whether a read of the key from the store is new enough; a floor that was reached is dropped."""
        floor = self._floors.get(key)
        if floor is None:
            return True
        if not self.meets(key, floor):
            return False
        del self._floors[key]
        return True

    def meets(self, key: str, floor: Floor) -> bool:
        """Whether the store has reached this very floor, whatever others came later."""
        if not self._is_covered(key):
            # Its namespace is not cached any more: reads of it are live.
            return True
        if floor.unknown:
            return False
        entry = self._store.get(key)
        new_enough = self._store.position(key) >= floor.rv or (entry is not None and entry.rv >= floor.rv)
        return new_enough and (not floor.gone_uid or entry is None or entry.uid != floor.gone_uid)

    def _is_covered(self, key: str) -> bool:
        return self._covers(key.rpartition("/")[0] or None)


class WriteFloors:
    """Middleware that raises a floor for each successful write of one object, and marks lost outcomes.

    It stands inside of retries, since each try has an outcome of its own: one that was lost is not undone by the next
    one's refusal. A ``delete_collection``, and a create under a generated name whose answer was lost, name no object:
    the next read of the kind waits for another list.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], list[KindFloors]] = {}

    def of(
        self,
        resource: ResourceType,
        store: StoreReader,
        covers: Callable[[str | None], bool] = lambda namespace: True,
        selector: Selector | None = None,
    ) -> KindFloors:
        """Floors for one more store of a kind, raised from now on by writes of the kind in whatever version.

        Args as for `KindFloors`.
        """
        floors = KindFloors(store, covers, selector)
        self._kinds.setdefault((resource.group, resource.plural), []).append(floors)
        return floors

    def drop(self, resource: ResourceType, floors: KindFloors) -> None:
        """Raises these floors no more."""
        self._kinds[(resource.group, resource.plural)].remove(floors)

    async def __call__(self, request: Request, handler: Handler) -> Response:
        """Runs the request. A cancelled or unanswered write leaves its key unknown."""
        watching = self._watching(request)
        if not watching:
            return await handler(request)
        try:
            response = await handler(request)
        except (TransportError, asyncio.CancelledError) as error:
            if not isinstance(error, TransportError) or error.sent:
                _doubt_all(watching, request)
            raise
        if response.status >= 500:
            # From 500 on a write may or may not have happened: proxies answer so when the server was cut off half-way.
            _doubt_all(watching, request)
        elif request.verb == "deletecollection" and (response.status < 300 or response.status == 409):
            # A conflict is one object's, with those before it gone.
            _doubt_all(watching, request)
        elif response.status < 300:
            reached = _reached_by(request, response)
            _raise_all(watching, reached, response.body if reached and not reached[1].gone_uid else b"")
        return response

    def _watching(self, request: Request) -> Sequence[KindFloors]:
        if not request.is_write or request.resource is None or ("dryRun", "All") in request.query:
            return ()
        return self._kinds.get((request.resource.group, request.resource.plural), ())


def _raise_all(watching: Sequence[KindFloors], raised: tuple[str, Floor] | None, raw: bytes) -> None:
    if raised is not None:
        for floors in watching:
            floors.written(*raised, raw)


def _doubt_all(watching: Sequence[KindFloors], request: Request) -> None:
    key = _asked_key(request)
    for floors in watching:
        if key:
            floors.written(key, Floor(unknown=True), b"")
        else:
            floors.fall_behind()


def _asked_key(request: Request) -> str:
    if request.key is None or request.resource is None or not request.key.name:
        return ""
    return store_key(request.key.name, request.key.namespace if request.resource.namespaced else None)


def _reached_by(request: Request, response: Response) -> tuple[str, Floor] | None:
    """What a successful write has made true: an object of that version, or none of that uid."""
    try:
        header = wire.decode_header(response.body)
        metadata, rv = header.metadata, int(header.metadata.resource_version or 0)
    except (msgspec.DecodeError, ValueError):
        return None
    is_object = header.kind != "Status"
    if is_object and _is_last_state(metadata):
        return _asked_key(request), Floor(rv, gone_uid=metadata.uid)
    if request.verb == "delete" and not metadata.deletion_timestamp:
        uid = metadata.uid or _status_uid(response.body)
        return (_asked_key(request), Floor(rv, gone_uid=uid)) if uid else None
    if request.subresource in _NO_CHANGE:
        return None
    if not is_object or not rv:
        # An eviction, say, is answered by a Status: the Pod has changed, to an unknown version.
        return (_asked_key(request), Floor(unknown=True)) if request.subresource else None
    if not metadata.name:
        return None
    return store_key(metadata.name, metadata.namespace), Floor(rv)


def _is_last_state(metadata: wire.MetadataHeader) -> bool:
    """Whether the write that returned an object also ended it: its last finalizer went, and nothing else holds it."""
    held = metadata.finalizers or metadata.deletion_grace_period_seconds
    return metadata.deletion_timestamp is not None and not held


def _status_uid(body: bytes) -> str:
    details: Mapping[str, object] = msgspec.json.decode(body).get("details") or {}
    return str(details.get("uid") or "")
