"""Floors: what this process knows to exist from its own writes, so that no cached read goes back behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from kaito.client import wire
from kaito.client.errors import TransportError
from kaito.client.middleware import Handler
from kaito.client.transport import Request, Response
from kaito.informers.store import Store, store_key
from kaito.kube.resource import ResourceType

# Answers after which a write may or may not have happened.
_UNCERTAIN_STATUSES = frozenset({500, 502, 504})


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
    """The floors of one kind, by store key."""

    def __init__(self) -> None:
        self._floors: dict[str, Floor] = {}

    def __bool__(self) -> bool:
        return bool(self._floors)

    def get(self, key: str) -> Floor | None:
        """The floor of a key, if it has one."""
        return self._floors.get(key)

    def pending(self, store: Store, namespace: str | None = None) -> list[str]:
        """The keys (of a namespace) whose floors the store has not reached; drops those that it has."""
        prefix = f"{namespace}/" if namespace else ""
        return [key for key in list(self._floors) if key.startswith(prefix) and not self.reached(key, store)]

    def raise_to(self, key: str, floor: Floor) -> None:
        """Sets a key's floor; of two resourceVersions the higher stays."""
        before = self._floors.get(key)
        superseded = before is not None and not floor.unknown and not floor.gone_uid and floor.rv < before.rv
        if superseded:
            return
        self._floors[key] = floor

    def settle(self, key: str) -> None:
        """Drops a key's floor."""
        self._floors.pop(key, None)

    def reached(self, key: str, store: Store) -> bool:
        """Whether a read of the key from the store is new enough; a floor that was reached is dropped."""
        floor = self._floors.get(key)
        if floor is None:
            return True
        if floor.unknown or not _reached(floor, key, store):
            return False
        del self._floors[key]
        return True


def _reached(floor: Floor, key: str, store: Store) -> bool:
    entry = store.get(key)
    if floor.gone_uid:
        return entry is None or entry.uid != floor.gone_uid
    return store.resource_version >= floor.rv or (entry is not None and entry.rv >= floor.rv)


class WriteFloors:
    """Middleware that raises a floor for each successful write of a watched kind, and marks lost outcomes."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], KindFloors] = {}

    def of(self, resource: ResourceType) -> KindFloors:
        """The floors of a kind, in whatever version it is written; from this call on they are kept."""
        return self._kinds.setdefault((resource.group, resource.plural), KindFloors())

    async def __call__(self, request: Request, handler: Handler) -> Response:
        """Runs the request. A cancelled or unanswered write leaves its key unknown."""
        floors = self._watched(request)
        if floors is None:
            return await handler(request)
        try:
            response = await handler(request)
        except (TransportError, asyncio.CancelledError) as error:
            if not isinstance(error, TransportError) or error.sent:
                _mark_unknown(floors, request)
            raise
        if response.status in _UNCERTAIN_STATUSES:
            _mark_unknown(floors, request)
        elif response.status < 300:
            _raise_floor(floors, request, response)
        return response

    def _watched(self, request: Request) -> KindFloors | None:
        if not request.is_write or request.resource is None or ("dryRun", "All") in request.query:
            return None
        return self._kinds.get((request.resource.group, request.resource.plural))


def _mark_unknown(floors: KindFloors, request: Request) -> None:
    if request.key is not None and request.key.name:
        floors.raise_to(store_key(request.key.name, request.key.namespace), Floor(unknown=True))


def _raise_floor(floors: KindFloors, request: Request, response: Response) -> None:
    try:
        header = wire.decode_header(response.body)
    except msgspec.DecodeError:
        return
    metadata = header.metadata
    stays = header.kind != "Status" and not _is_last_state(metadata)
    if request.verb == "delete" and (not stays or not metadata.deletion_timestamp):
        _raise_gone(floors, request, metadata.uid or _status_uid(response.body))
    elif not stays and header.kind != "Status":
        _raise_gone(floors, request, metadata.uid)
    elif metadata.name and stays and request.subresource in ("", "status"):
        key = store_key(metadata.name, metadata.namespace)
        floors.raise_to(key, Floor(rv=int(metadata.resource_version or 0)))


def _is_last_state(metadata: wire.MetadataHeader) -> bool:
    """Whether the write that returned an object also ended it: its last finalizer went, and nothing else holds it."""
    held = metadata.finalizers or metadata.deletion_grace_period_seconds
    return metadata.deletion_timestamp is not None and not held


def _raise_gone(floors: KindFloors, request: Request, uid: str) -> None:
    if uid and request.key is not None:
        floors.raise_to(store_key(request.key.name, request.key.namespace), Floor(gone_uid=uid))


def _status_uid(body: bytes) -> str:
    details: Mapping[str, object] = msgspec.json.decode(body).get("details") or {}
    return str(details.get("uid") or "")
