"""Reflector: keeps a store equal to what the API server has of one kind; a pure state machine with an I/O shell."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

import msgspec

from kaito.client import wire
from kaito.client.errors import (
    Forbidden,
    Gone,
    KubeError,
    NotFound,
    Status,
    TransportError,
    Unauthorized,
    error_from_response,
    error_from_status,
)
from kaito.client.transport import Request, Response, Transport
from kaito.informers.entry import UnreadableObject
from kaito.informers.list_watch import Ended, Listed, Phase, State, first_state, reason_of, step
from kaito.informers.lister import SLICE, Lister
from kaito.informers.options import ListMode
from kaito.informers.store import Change, Replacement, Store
from kaito.kube.resource import ResourceType

log = logging.getLogger(__name__)

# Below the 240 s after which some load balancers silently drop a connection; spread, so that they do not end at once.
WATCH_TIMEOUT_S = (180, 220)
# Bookmarks come about once a minute: a watch silent for longer is dead (half-open connection).
WATCH_SILENCE_S = 90.0

_CHANGES: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})


class Observer(Protocol):
    """Who is told what the reflector does."""

    def on_changes(self, changes: tuple[Change, ...]) -> None:
        """The store changed."""
        ...

    async def on_replaced(self, changes: Iterator[Change]) -> None:
        """The store's contents were swapped by a list; may yield to the loop."""
        ...

    def on_progress(self) -> None:
        """Events or bookmarks arrived and are in the store."""
        ...

    def on_state(self, state: State) -> None:
        """A step ended, and this one comes next."""
        ...


class Reflector:
    """Lists and watches one kind, for ever.

    Args:
        transport: how requests travel.
        resource: the kind.
        store: what is kept equal to the server's state.
        observer: told of changes and of states.
        namespace: one namespace, or None for all.
        labels: label selector.
        fields: field selector.
        list_mode: how objects are listed.
        accept: media types that are asked for, of watches and of lists; empty: plain JSON.
        rng: source of jitter and of watch timeouts.
        silence_s: a watch from which nothing has come for so long, not even a bookmark, is dead.

    Attributes:
        lists: lists that were begun, by mode.
        restarts: steps that ended, by reason (`kaito.informers.list_watch.reason_of`).
        events: events of watches, by type.
        unreadable: objects that could not be read; each ended in a list, or stands in one.
        begun: how many lists were begun.
        known_unreadable: store keys of objects of the last list that could not be read, and have not been since.
    """

    def __init__(
        self,
        transport: Transport,
        resource: ResourceType,
        store: Store,
        observer: Observer,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        list_mode: ListMode = "stream",
        accept: tuple[str, str] = ("", ""),
        rng: random.Random | None = None,
        silence_s: float = WATCH_SILENCE_S,
    ) -> None:
        self._transport = transport
        self._resource = resource
        self._store = store
        self._observer = observer
        self._path = resource.path(namespace)
        selectors = (("labelSelector", labels), ("fieldSelector", fields))
        self._query = tuple((name, value) for name, value in selectors if value)
        self._rng = rng or random.Random()
        self._silence_s = silence_s
        self._list_mode = list_mode
        self._watch_headers, list_headers = ({"Accept": types} if types else {} for types in accept)
        self._lister = Lister(transport, resource, self._path, self._query, list_headers)
        self._streams = list_mode == "stream"
        self.lists: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.unreadable = 0
        self.begun = 0
        self.known_unreadable: set[str] = set()
        self._clock: Callable[[], float] = lambda: asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Runs until cancelled, from a list on. Cancellation leaves the store as it is, and no connection open."""
        state = first_state(streaming=self._streams)
        while True:
            if state.wait_s:
                await asyncio.sleep(state.wait_s)
            outcome = await self._perform(state)
            state = step(state, outcome, self._rng.random())
            self._streams = state.streaming
            if isinstance(outcome, Ended):
                self.restarts[reason_of(outcome)] += 1
                if isinstance(outcome.error, UnreadableObject):
                    self._count_unreadable(outcome.error, "listing anew")
            self._report(state)
            if state.error is None and isinstance(outcome, Ended) and outcome.error is not None:
                fields = {"kind": self._resource.group_kind, "error": str(outcome.error)}
                log.info("watch broke, resuming where it was", extra=fields)

    async def _perform(self, state: State) -> Ended | Listed:
        if state.phase is Phase.LIST:
            try:
                return await self._list()
            except (KubeError, msgspec.DecodeError) as error:
                return Ended("", 0, 0.0, error)
        if state.phase is Phase.STREAM_LIST:
            self._begin_list("stream")
        return await self._watch(state)

    def _report(self, state: State) -> None:
        self._observer.on_state(state)
        if state.error is None:
            return
        # The first failure and every power of two: a server that stays away must not fill the log.
        routine = isinstance(state.error, Gone) or state.failures & (state.failures - 1) != 0
        level = logging.INFO if routine else logging.WARNING
        log.log(
            level,
            "watch failed, trying again",
            extra={
                "kind": self._resource.group_kind,
                "failures": state.failures,
                "retry_in_s": round(state.wait_s, 1),
                "next": state.phase.value,
                "error": str(state.error),
                "hint": hint(state.error, self._resource).removeprefix("; "),
            },
        )

    async def _list(self) -> Listed:
        mode = "pages" if self._list_mode == "stream" else self._list_mode
        self._begin_list(mode)
        replacement = self._store.replacement()
        read = self._lister.whole if mode == "whole" else self._lister.pages
        version = await read(partial(self.add_listed, replacement))
        self.check_listed(replacement)
        await self._observer.on_replaced(replacement.commit(_parse_version(version)))
        return Listed(version)

    def _begin_list(self, mode: str) -> None:
        self.begun += 1
        self.lists[mode] += 1
        self.known_unreadable = set()

    def check_listed(self, replacement: Replacement) -> None:
        """Refuses a list of which nothing could be read: that is no empty list.

        Raises:
            UnreadableObject: it is one.
        """
        if self.known_unreadable and not len(replacement):
            what = self._resource.group_kind
            raise UnreadableObject(f"none of the {len(self.known_unreadable)} objects of the list is a {what}")

    def add_listed(self, replacement: Replacement, raw: bytes | msgspec.Raw | wire.Fields) -> None:
        """Takes an object into a list; one that cannot be read is left out, or the list would never be whole."""
        try:
            replacement.add(raw)
        except UnreadableObject as error:
            self.known_unreadable.add(error.key)
            self._count_unreadable(error, "left out of the list")

    def skips(self, error: UnreadableObject) -> bool:
        """Whether to go on without an event: the last list had its object unreadable too, and so would another.

        Not if an older state of the object is stored: it may be the end of it that could not be read.
        """
        if not error.key or error.key not in self.known_unreadable or error.key in self._store:
            return False
        self._count_unreadable(error, "skipped")
        return True

    def _count_unreadable(self, error: UnreadableObject, then: str) -> None:
        self.unreadable += 1
        # Whatever sends such things may send many.
        if self.unreadable & (self.unreadable - 1) == 0:
            hint = "look at what stands between here and the API server, or at the API service behind this kind"
            fields = {"kind": self._resource.group_kind, "then": then, "count": self.unreadable, "hint": hint}
            log.warning("the server sent an object that cannot be read", extra={**fields, "error": str(error)})

    async def _watch(self, state: State) -> Ended:
        request = self._watch_request(state)
        session = _WatchSession(self, self._store, self._observer, state)
        opened_at: float | None = None
        error: Exception | None = None
        try:
            stream = await self._transport.stream(request)
            try:
                if stream.status != 200:
                    body = b"".join([chunk async for chunk in stream.chunks()])
                    raise error_from_response(request, Response(stream.status, stream.headers, body))
                opened_at = self._clock()
                if state.phase is Phase.WATCH:
                    self._observer.on_state(replace(state, error=None, dormant=False))
                await session.consume(wire.lines(stream.chunks()))
            finally:
                await stream.aclose()
        except (KubeError, msgspec.DecodeError, msgspec.ValidationError) as broken:
            error = broken
        lasted_s = self._clock() - opened_at if opened_at is not None else 0.0
        return Ended(session.resource_version, session.events, lasted_s, error)

    def _watch_request(self, state: State) -> Request:
        query = [
            *self._query,
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(self._rng.randint(*WATCH_TIMEOUT_S))),
        ]
        if state.phase is Phase.STREAM_LIST:
            # No resourceVersion: a consistent list. This reads what money is spent on.
            query += [("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")]
        else:
            query.append(("resourceVersion", state.resource_version))
        return Request(
            "GET",
            self._path,
            "watch",
            query=tuple(query),
            headers=self._watch_headers,
            resource=self._resource,
            timeout_s=self._silence_s,
        )


class _WatchSession:
    """What one watch connection has brought so far."""

    def __init__(self, reflector: Reflector, store: Store, observer: Observer, state: State) -> None:
        self._reflector = reflector
        self._store = store
        self._observer = observer
        self._replacement = store.replacement() if state.phase is Phase.STREAM_LIST else None
        self.resource_version = state.resource_version
        self.events = 0

    async def consume(self, batches: AsyncIterator[list[bytes]]) -> None:
        async for batch in batches:
            try:
                for index, line in enumerate(batch):
                    await self._take(_event_of(line))
                    if index % SLICE == SLICE - 1:
                        await asyncio.sleep(0)
            finally:
                # Also of what came before an event that ends the watch.
                if self._replacement is None:
                    self._observer.on_progress()
            # A server that always has more must not keep the loop.
            await asyncio.sleep(0)

    async def _take(self, event: wire.FieldsLine) -> None:
        if event.type in _CHANGES:
            self.events += 1
            self._reflector.events[event.type] += 1
            if self._replacement is not None:
                self._take_initial(self._replacement, event)
            else:
                self._take_change(event)
        elif event.type == "BOOKMARK":
            self._reflector.events[event.type] += 1
            await self._bookmark(event)
        elif event.type == "ERROR":
            raise error_from_status(
                msgspec.json.decode(msgspec.json.encode(event.object), type=Status), prefix="watch: "
            )
        else:
            raise UnreadableObject(f"a watch event of unknown type {event.type!r}")

    def _take_initial(self, replacement: Replacement, event: wire.FieldsLine) -> None:
        if event.type == "DELETED":
            replacement.discard(event.object)
        else:
            self._reflector.add_listed(replacement, event.object)

    def _take_change(self, event: wire.FieldsLine) -> None:
        try:
            changes = self._store.remove(event.object) if event.type == "DELETED" else self._store.put(event.object)
        except UnreadableObject as error:
            if not self._reflector.skips(error):
                raise
            return
        self._reflector.known_unreadable.difference_update(change.key for change in changes)
        self.resource_version = str(self._store.resource_version)
        self._observer.on_changes(changes)

    async def _bookmark(self, event: wire.FieldsLine) -> None:
        metadata = wire.decode_bookmark_metadata(event.object.get("metadata", msgspec.Raw(b"{}")))
        version = metadata.resource_version
        position = _parse_version(version)
        if self._replacement is None:
            if position < self._store.resource_version:
                raise Gone(f"the server went back from {self._store.resource_version} to {version}: it was restored")
            self._store.bookmark(position)
        elif (metadata.annotations or {}).get("k8s.io/initial-events-end") == "true":
            replacement, self._replacement = self._replacement, None
            self._reflector.check_listed(replacement)
            await self._observer.on_replaced(replacement.commit(position))
        else:
            return
        self.events += 1
        self.resource_version = version


def _event_of(line: bytes) -> wire.FieldsLine:
    try:
        return wire.decode_fields_line(line)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise UnreadableObject(f"a line of the watch, of {len(line)} bytes, is no event: {error}") from error


def _parse_version(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise KubeError(
            f"the server gave resourceVersion {text!r}, which is no number: nothing can be watched from there"
        ) from None


def hint(error: Exception, resource: ResourceType) -> str:
    """What a person can do about an error, as the end of a sentence; empty if nothing is known."""
    if isinstance(error, NotFound):
        return f"; install the CustomResourceDefinition of {resource.group_kind}, the watch starts by itself then"
    if isinstance(error, Forbidden):
        what = f"{resource.plural}.{resource.group or 'core'}"
        return f"; grant get, list and watch on {what}, it is tried again by itself"
    if isinstance(error, Unauthorized):
        return "; give it other credentials: these are wrong or have expired"
    if isinstance(error, TransportError):
        if "CERTIFICATE" in str(error):
            return "; give it the CA of the API server, and the address that the certificate is for"
        return "; look whether the API server runs, and is there; it is tried again by itself"
    return ""
