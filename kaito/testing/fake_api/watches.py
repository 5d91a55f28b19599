"""Watches: the stream of changes of one collection, as lines of JSON."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from kaito.testing.fake_api.failures import Cause, Failure, Json, invalid_options
from kaito.testing.fake_api.reads import parse_version, selector_of, wire_form
from kaito.testing.fake_api.routes import Route
from kaito.testing.fake_api.store import Event, Key, Store

BOOKMARK_INTERVAL_S = 60.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Watch:
    """One open watch. Lines are queued within the write that causes them; `take` hands them out.

    Needs a running loop, whose clock counts ``timeoutSeconds`` and the time between bookmarks.

    Args:
        store: the objects.
        route: what is watched.
        timeout_s: seconds until the server ends it.
        bookmark_interval_s: seconds between bookmarks, if they were asked for.
        watch_list: whether streaming lists (``sendInitialEvents``) are served.

    Raises:
        Failure: 400, 422, 504; a version that was compacted ends in an ERROR line, as on a real server.
    """

    def __init__(
        self,
        store: Store,
        route: Route,
        *,
        timeout_s: float,
        bookmark_interval_s: float = BOOKMARK_INTERVAL_S,
        watch_list: bool = True,
    ) -> None:
        _check_options(route, watch_list)
        self._store = store
        self._route = route
        self._selector = selector_of(route)
        self._bookmarks = route.flag("allowWatchBookmarks")
        self._bookmark_interval_s = bookmark_interval_s
        self._lines: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._timers: list[asyncio.TimerHandle] = []
        self._unsubscribe: Callable[[], None] = lambda: None
        self.ended = False
        self.broken = False
        self.sent = 0
        self._start(timeout_s)

    @property
    def collection(self) -> str:
        """What is watched."""
        return self._route.kind.collection

    async def take(self) -> list[bytes]:
        """Waits for lines and returns all there are; none when the watch has ended."""
        while not self._lines and not self.ended:
            self._news.clear()
            await self._news.wait()
        lines = list(self._lines)
        self._lines.clear()
        self.sent += len(lines)
        return lines

    def bookmark(self, annotations: Json | None = None) -> None:
        """Sends a bookmark, if the client asked for them."""
        if not self._bookmarks or self.ended:
            return
        metadata: Json = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        kind = self._route.kind.type
        self._send("BOOKMARK", {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata})

    def fail(self, failure: Failure) -> None:
        """Ends the watch with an ERROR line."""
        self._send("ERROR", failure.status())
        self.close()

    def reset(self) -> None:
        """Ends the watch by breaking its connection."""
        self.broken = True
        self.close()

    def close(self) -> None:
        """Ends the watch; lines that are queued can still be taken. Safe to call twice."""
        self.ended = True
        self._unsubscribe()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._news.set()

    def _start(self, timeout_s: float) -> None:
        version = parse_version(self._route.query.get("resourceVersion", ""), self._store)
        try:
            self._send_initial(version)
        except Failure as failure:
            self.fail(failure)
            return
        self._unsubscribe = self._store.subscribe(self._on_event)
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(timeout_s, self._time_out))
        self._beat(loop)

    def _send_initial(self, version: int | None) -> None:
        initial = self._route.query.get("sendInitialEvents", "")
        if initial == "true" or (not initial and not version):
            for _, obj in self._store.select(self._route.kind.collection, self._route.namespace):
                if self._selector.matches(obj):
                    self._send("ADDED", wire_form(self._route.kind, obj))
        elif version:
            for event in self._store.since(version):
                self._on_event(event)
        if initial == "true":
            self.bookmark({INITIAL_EVENTS_END: "true"})

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._bookmarks:
            self._timers[1:] = [loop.call_later(self._bookmark_interval_s, self._on_beat, loop)]

    def _on_beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self.bookmark()
        self._beat(loop)

    def _time_out(self) -> None:
        self.bookmark()
        self.close()

    def _on_event(self, event: Event) -> None:
        if not self._watches(event.key):
            return
        was = event.previous is not None and self._selector.matches(event.previous)
        is_now = event.type != "DELETED" and self._selector.matches(event.object)
        if is_now:
            self._send("MODIFIED" if was else "ADDED", wire_form(self._route.kind, event.object))
        elif was:
            self._send("DELETED", wire_form(self._route.kind, _last_seen(event)))

    def _watches(self, key: Key) -> bool:
        route = self._route
        return key.collection == route.kind.collection and (not route.namespace or key.namespace == route.namespace)

    def _send(self, kind: str, obj: Json) -> None:
        self._lines.append(msgspec.json.encode({"type": kind, "object": obj}) + b"\n")
        self._news.set()


def _last_seen(event: Event) -> Json:
    """What a deletion carries: to a selection that an object left, its last selected state, with the new version."""
    if event.type == "DELETED" or event.previous is None:
        return event.object
    metadata = {**event.previous["metadata"], "resourceVersion": str(event.version)}
    return {**event.previous, "metadata": metadata}


def _check_options(route: Route, watch_list: bool) -> None:
    initial, match = route.query.get("sendInitialEvents", ""), route.query.get("resourceVersionMatch", "")
    causes = []
    if initial and match != "NotOlderThan":
        why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        causes.append(Cause("resourceVersionMatch", "FieldValueForbidden", why))
    if initial and not watch_list:
        why = "Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
        causes.append(Cause("sendInitialEvents", "FieldValueForbidden", why))
    if match and not initial:
        why = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        causes.append(Cause("resourceVersionMatch", "FieldValueForbidden", why))
    if causes:
        raise invalid_options("ListOptions", *causes)
