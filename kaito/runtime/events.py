"""EventRecorder: tells the people who look at an object what was done about it, as Events of events.k8s.io/v1."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter

from kaito.client.client import Client
from kaito.client.errors import (
    AlreadyExists,
    InternalError,
    KubeError,
    NotFound,
    ServerTimeout,
    ServiceUnavailable,
    TooManyRequests,
    TransportError,
    Unauthorized,
)
from kaito.kube.core_v1 import ObjectReference
from kaito.kube.events_v1 import Event, EventSeries
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.access import Access
from kaito.runtime.clocks import running_loop
from kaito.runtime.event_book import About, Drop, EventBook, Said, Series
from kaito.runtime.service import Service

log = logging.getLogger(__name__)

TYPES = ("Normal", "Warning")
MAX_NOTE_BYTES = 1024
MAX_REASON = 128
MAX_REPORTER = 128
WRITERS = 4
ATTEMPTS = 12
"""client-go tries as often, every 10 s; here waits double from 0.5 s to 10 s."""
FIRST_WAIT_S = 0.5
MAX_WAIT_S = 10.0
FLUSH_S = 2.0
LOG_INTERVAL_S = 60.0
DEFAULT_NAMESPACE = "default"

_REASON = re.compile(r"[A-Z][A-Za-z0-9]*")
_UNQUALIFIED = re.compile(r"[^A-Za-z0-9_.-]")
# These say nothing about the event: the next try may do.
_TRANSIENT = (TransportError, ServiceUnavailable, TooManyRequests, InternalError, ServerTimeout, Unauthorized)


class EventRecorder(Service):
    """Records events; a manager has one, as ``manager.events``.

    Recording only takes a note: a task writes, beside everything else and outside of any leader's fence, since what a
    former leader did did happen. What is said again becomes a series, with a count, instead of another object; see
    `EventBook` for the limits. When the API server is away, events wait for some 90 s each, at most
    `kaito.runtime.event_book.MAX_WAITING` of them; what is dropped is counted
    (``controller_events_dropped_total``), and logged once a minute. With `kaito.client.middleware.dry_run` in the
    client, events are dry too.

    Args:
        client: writes.
        source: who says so: the ``reportingController``.
        instance: which process of it; default: source and host name.
        registry: where its metrics go; None: nowhere.
        now: wall clock, for the times in events.
        rng: source of jitter.
        book: decides what is written when.
    """

    def __init__(
        self,
        client: Client,
        source: str,
        *,
        instance: str = "",
        registry: CollectorRegistry | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: random.Random | None = None,
        book: EventBook | None = None,
    ) -> None:
        self._client = client
        self._source = _qualified(source)
        self._instance = (instance or f"{source}-{socket.gethostname()}")[:MAX_REPORTER]
        self._metrics = _EventMetrics(registry) if registry is not None else None
        self._now = now
        self._rng = rng or random.Random()
        self._book = book or EventBook()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._is_stopped = False
        self._drops = _DropLog()

    @property
    def name(self) -> str:
        """See `Service.name`."""
        return "events"

    @property
    def needs(self) -> Sequence[Access]:
        """See `Service.needs`."""
        # Those of cluster-scoped objects lie apart, also where the manager works in some namespaces only.
        return tuple(Access(Event, "create", "patch", namespace=place) for place in (None, DEFAULT_NAMESPACE))

    def event(
        self,
        regarding: Resource | ObjectReference,
        type: str,
        reason: str,
        action: str,
        note: str,
        related: Resource | ObjectReference | None = None,
    ) -> None:
        """Says that something happened: when something changed, not at each reconcile.

        Returns at once, whatever the API server does; may be called from any thread, and before `run`.

        Args:
            regarding: about which object; an event about one without a namespace lies in ``default``.
            type: ``Normal``, or ``Warning`` for what a person should look into.
            reason: why, for programs: CamelCase, at most 128 characters, such as ``LaunchFailed``.
            action: what was done or tried, at most 128 bytes, such as ``Launch``.
            note: the same for people; what is beyond 1 kB is cut off.
            related: another object that has to do with it.

        Raises:
            ValueError: an argument is none that the API takes; the text says which.
        """
        said = Said(_about("regarding", regarding), type, reason, action, _cut(note), _maybe_about("related", related))
        _check(said)
        moment = self._now()
        if self._loop is None or running_loop() is self._loop:
            self._record(said, moment)
            return
        with suppress(RuntimeError):  # the loop is closed: there is nobody left to tell
            self._loop.call_soon_threadsafe(self._record, said, moment)

    async def run(self) -> None:
        """Writes until cancelled; then takes at most two seconds to write what is left. See `Service.run`."""
        self._loop = asyncio.get_running_loop()
        places = asyncio.Semaphore(WRITERS)
        try:
            async with asyncio.TaskGroup() as writers:
                while True:
                    await places.acquire()
                    task = writers.create_task(self._write(await self._next()))
                    task.add_done_callback(lambda _: places.release())
        finally:
            self._is_stopped = True
            await self._flush()

    def _record(self, said: Said, moment: datetime) -> None:
        if self._is_stopped:
            self._dropped(Drop.STOPPED, 1)
            return
        dropped = self._book.record(said, moment, _clock())
        if dropped is not None:
            self._dropped(dropped, 1)
            return
        self._wake.set()

    async def _next(self) -> Series:
        """Waits for what is due."""
        while (series := self._book.take(_clock())) is None:
            self._wake.clear()
            due_at = self._book.due_at()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due_at is None else max(0.0, due_at - _clock())):
                    await self._wake.wait()
        return series

    async def _write(self, series: Series) -> None:
        """Writes a series, trying again while that may help; what cannot be written is dropped."""
        for attempt in range(ATTEMPTS):
            try:
                await self._put(series)
            except _TRANSIENT as error:
                why, drop = str(error), Drop.UNREACHABLE
                await asyncio.sleep(min(MAX_WAIT_S, FIRST_WAIT_S * 2**attempt) * (1 + 0.25 * self._rng.random()))
            except KubeError as error:
                why, drop = str(error), Drop.REFUSED
                break
            except Exception as error:
                log.exception("event cannot be written", extra={"event": series.name})
                why, drop = str(error), Drop.REFUSED
                break
            else:
                return
        self._dropped(drop, self._book.discard(series), why)

    async def _put(self, series: Series) -> None:
        """Makes the Event object, or tells its count."""
        count = series.count
        key = ObjectKey(series.name, _namespace(series.said.regarding))
        if series.told:
            try:
                await self._client.patch(Event, key, {"series": _series(series, count).to_dict()})
            except NotFound:
                # The API server forgets events, by default after an hour.
                series.told = 0
        if not series.told:
            # Of this name there is only this one, made by a try whose answer was lost.
            with suppress(AlreadyExists):
                await self._client.create(self._event(series, key, count))
        if self._metrics is not None:
            self._metrics.written.inc()
        self._book.told(series, count, _clock())
        self._wake.set()

    def _event(self, series: Series, key: ObjectKey, count: int) -> Event:
        said = series.said
        return Event(
            metadata=ObjectMeta(name=key.name, namespace=key.namespace),
            event_time=series.first,
            reporting_controller=self._source,
            reporting_instance=self._instance,
            action=said.action,
            reason=said.reason,
            regarding=_reference(said.regarding),
            note=said.note,
            type=said.type,
            related=_reference(said.related) if said.related is not None else None,
            series=_series(series, count) if count > 1 else None,
        )

    async def _flush(self) -> None:
        """Writes what is left, each once, as far as the time allows."""
        left = self._book.unwritten()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                for start in range(0, len(left), WRITERS):
                    await asyncio.gather(*map(self._put, left[start : start + WRITERS]), return_exceptions=True)
        lost = sum(self._book.discard(series) for series in left)
        if lost:
            self._dropped(Drop.STOPPED, lost)

    def _dropped(self, why: Drop, count: int, error: str = "") -> None:
        if self._metrics is not None:
            self._metrics.dropped.labels(why).inc(count)
        self._drops.add(why, count, error)


class _EventMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.written = Counter(
            "controller_events_written_total", "Events, and counts of series, written.", registry=registry
        )
        self.dropped = Counter(
            "controller_events_dropped_total", "Events that were not written.", ("reason",), registry=registry
        )
        for reason in Drop:
            self.dropped.labels(reason)


class _DropLog:
    """Logs drops, each reason at most once in `LOG_INTERVAL_S`, with the count since."""

    def __init__(self) -> None:
        self._counts: dict[Drop, int] = {}
        self._logged_at: dict[Drop, float] = {}

    def add(self, why: Drop, count: int, error: str) -> None:
        self._counts[why] = self._counts.get(why, 0) + count
        now = _clock()
        if now - self._logged_at.get(why, float("-inf")) < LOG_INTERVAL_S:
            return
        self._logged_at[why] = now
        fields = {"reason": why.value, "events": self._counts.pop(why), **({"error": error} if error else {})}
        log.warning("events dropped", extra=fields)


def _check(said: Said) -> None:
    if said.type not in TYPES:
        raise ValueError(f"event: type is {said.type!r}; expected {' or '.join(TYPES)}")
    if not _REASON.fullmatch(said.reason) or len(said.reason) > MAX_REASON:
        raise ValueError(f"event: reason is {said.reason!r}; expected CamelCase of at most {MAX_REASON} characters")
    if not said.action or len(said.action.encode(errors="replace")) > MAX_REASON:
        raise ValueError(f"event: action is {said.action!r}; expected 1 to {MAX_REASON} bytes")
    if not said.note:
        raise ValueError(f"event {said.reason}: note is empty; say for people what happened")


def _about(argument: str, obj: Resource | ObjectReference) -> About:
    if isinstance(obj, Resource):
        meta = obj.metadata
        about = About(obj.api_version, obj.kind, meta.namespace or "", meta.name, meta.uid)
    else:
        about = About(*(value or "" for value in (obj.api_version, obj.kind, obj.namespace, obj.name, obj.uid)))
    if not about.kind or not about.name:
        raise ValueError(
            f"event: {argument} is {about.kind or 'of no kind'} {about.name!r}; a kind and a name are needed"
        )
    return about


def _maybe_about(argument: str, obj: Resource | ObjectReference | None) -> About | None:
    return None if obj is None else _about(argument, obj)


def _reference(about: About) -> ObjectReference:
    return ObjectReference.model_validate({name: value for name, value in about._asdict().items() if value})


def _namespace(about: About) -> str:
    return about.namespace or DEFAULT_NAMESPACE


def _series(series: Series, count: int) -> EventSeries:
    return EventSeries(count=max(2, count), last_observed_time=series.last)


def _cut(note: str) -> str:
    encoded = note.encode(errors="replace")
    if len(encoded) <= MAX_NOTE_BYTES:
        return encoded.decode()
    return encoded[: MAX_NOTE_BYTES - len("…".encode())].decode(errors="ignore") + "…"


def _qualified(source: str) -> str:
    """A source as the API takes it: at most 63 letters, digits, ``_``, ``.`` and ``-``, none of these at the ends."""
    return _UNQUALIFIED.sub("-", source)[:63].strip("-_.") or "controller"


def _clock() -> float:
    loop = running_loop()
    return loop.time() if loop is not None else time.monotonic()
