"""Cases of client-go's contract that need a server which misbehaves; the table is docs/conformance.md."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from kaito.client import Client, TransportError
from kaito.client.middleware import RetryMiddleware
from kaito.client.transport import Request, Response, ResponseStream, Transport
from kaito.informers import Informer, InformerEvent, InformerOptions, ListMode
from kaito.informers.list_watch import BACKOFF_FIRST_S
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.testing import eventually
from kaito.testing.fake_api import (
    Action,
    CutWatch,
    Delay,
    Drop,
    FailWatch,
    Fault,
    Faults,
    Refuse,
    Trickle,
    throttled,
    version_expired,
    version_too_large,
)

TIMEOUT_S = 30.0


class Asked(NamedTuple):
    """A request that a client made, and when by the loop's clock."""

    verb: str
    query: dict[str, str]
    at_s: float


class Recording:
    """A transport that writes down what is asked."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.asked: list[Asked] = []

    async def send(self, request: Request) -> Response:
        """See `Transport.send`."""
        self._note(request)
        return await self._inner.send(request)

    async def stream(self, request: Request) -> ResponseStream:
        """See `Transport.stream`."""
        self._note(request)
        return await self._inner.stream(request)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._inner.aclose()

    def of(self, verb: str) -> list[Asked]:
        """The requests of one verb."""
        return [one for one in self.asked if one.verb == verb]

    def _note(self, request: Request) -> None:
        self.asked.append(Asked(request.verb, dict(request.query), asyncio.get_running_loop().time()))


class Told(NamedTuple):
    """An event as a handler saw it, and what was stored then."""

    type: str
    name: str
    initial: bool
    stored: frozenset[str]


class Stand:
    """A server, what breaks, and a client before it.

    Args:
        transport: through what breaks.
        live: past it.
        faults: what breaks.
        namespace: of the objects.
    """

    def __init__(self, transport: Transport, live: Client, faults: Faults, namespace: str) -> None:
        self.transport = Recording(transport)
        self.live = live
        self.faults = faults
        self.namespace = namespace
        self.told: list[Told] = []

    async def put(self, *names: str) -> None:
        """Makes objects."""
        for name in names:
            metadata = ObjectMeta(name=name, namespace=self.namespace, labels=FrozenDict(t="1"))
            await self.live.create(ConfigMap(metadata=metadata))

    async def drop(self, *names: str) -> None:
        """Deletes objects."""
        for name in names:
            await self.live.delete(ConfigMap, self.key(name))

    def key(self, name: str) -> ObjectKey:
        """The key of an object."""
        return ObjectKey(name, self.namespace)

    def breaks(self, action: Action, *, verb: str = "watch", nth: int = 1, times: int | None = 1) -> None:
        """Adds a fault."""
        self.faults.add(Fault(action, verb=verb, resource="configmaps", nth=nth, times=times))

    @asynccontextmanager
    async def informed(self, list_mode: ListMode = "stream") -> AsyncIterator[Informer[ConfigMap]]:
        """An informer that is synced."""
        # Every namespace of a whole cluster has a ConfigMap of its own.
        options = InformerOptions(namespaces=frozenset({self.namespace}), labels="t=1", list_mode=list_mode)
        informer = Informer(ConfigMap, self.transport, options, rng=random.Random(1))
        informer.add_handler(self._hear)
        task = asyncio.create_task(informer.run())
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await informer.wait_synced()
            yield informer
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def holds(self, informer: Informer[ConfigMap], *names: str) -> None:
        """Waits until these objects are stored, and no others."""
        await eventually(lambda: stored(informer) == frozenset(names), timeout_s=TIMEOUT_S, message=f"stored: {names}")

    def _hear(self, event: InformerEvent[ConfigMap]) -> None:
        name = event.key.name
        self.told.append(Told(event.change.type, name, event.initial, stored(event.informer)))


Case = Callable[[Stand], Awaitable[None]]


def stored(informer: Informer[ConfigMap]) -> frozenset[str]:
    """The names in a cache."""
    return frozenset(key.rpartition("/")[2] for key, _ in informer.store.items())


async def t02_an_expired_first_page_is_asked_for_again_at_once(stand: Stand) -> None:
    await stand.put("a")
    stand.breaks(version_expired(), verb="list")
    async with stand.informed("pages") as informer:
        first, second = stand.transport.of("list")
        assert second.at_s - first.at_s < BACKOFF_FIRST_S
        assert "continue" not in second.query
        assert stored(informer) == {"a"}


def t03_a_version_that_is_too_large(legacy: bool, within: bool) -> Case:
    async def case(stand: Stand) -> None:
        await stand.put("a")
        error = version_too_large(legacy=legacy)
        stand.breaks(FailWatch(error, after=2) if within else CutWatch(after=2, how="close"))
        if not within:
            stand.breaks(error, nth=2)
        async with stand.informed() as informer:
            await stand.put("b")
            await stand.holds(informer, "a", "b")
            last = stand.transport.of("watch")[-1]
            assert last.query["sendInitialEvents"] == "true"
            assert "resourceVersion" not in last.query
            assert last.at_s - stand.transport.of("watch")[-2].at_s < BACKOFF_FIRST_S

    return case


async def t05_a_watch_that_closes_at_once_is_opened_ever_more_rarely(stand: Stand) -> None:
    await stand.put("a")
    stand.breaks(CutWatch(after=2, how="close"))
    stand.breaks(CutWatch(after=0, how="close"), nth=2, times=2)
    async with stand.informed() as informer:
        await stand.put("b")
        await stand.holds(informer, "a", "b")
        times = [one.at_s for one in stand.transport.of("watch")]
        waits = [later - earlier for earlier, later in itertools.pairwise(times[1:])]
        assert len(waits) == 2
        assert waits[0] >= BACKOFF_FIRST_S
        assert waits[1] >= 2 * BACKOFF_FIRST_S
        assert ["sendInitialEvents" in one.query for one in stand.transport.of("watch")] == [True, False, False, False]


async def t06_a_throttled_watch_waits_and_goes_on_where_it_was(stand: Stand) -> None:
    await stand.put("a")
    stand.breaks(CutWatch(after=2, how="close"))
    stand.breaks(throttled(2), nth=2)
    async with stand.informed() as informer:
        await stand.put("b")
        await stand.holds(informer, "a", "b")
        _, refused, again = stand.transport.of("watch")
        assert again.at_s - refused.at_s >= 2
        assert again.query["resourceVersion"] == refused.query["resourceVersion"]
        assert stand.transport.of("list") == []


async def t06_a_throttled_list_waits_as_asked(stand: Stand) -> None:
    await stand.put("a")
    stand.breaks(throttled(2), verb="list")
    async with stand.informed("pages"):
        first, second = stand.transport.of("list")
        assert second.at_s - first.at_s >= 2


async def t09_what_went_unseen_is_told_once_and_before_what_came(stand: Stand) -> None:
    await stand.put("stays", "goes", "again", "changes")
    stand.breaks(CutWatch(after=5, how="reset"))
    stand.breaks(Refuse(503, "ServiceUnavailable"), nth=2, times=None)
    async with stand.informed() as informer:
        await stand.drop("goes", "again")
        await stand.put("again", "new")
        await stand.live.patch(ConfigMap, stand.key("changes"), {"data": {"x": "1"}})
        stand.told.clear()
        stand.faults.clear()
        stand.breaks(version_expired())
        await stand.holds(informer, "stays", "again", "changes", "new")
        told = [(one.type, one.name) for one in stand.told]
        assert sorted(told[:2]) == [("deleted", "again"), ("deleted", "goes")]
        assert sorted(told[2:]) == [("added", "again"), ("added", "new"), ("updated", "changes")]
        assert {one.initial for one in stand.told} == {True}  # found by a list: the last state before may be missing


async def t11_a_relist_is_invisible_until_it_is_whole_and_its_stream_goes_on(stand: Stand) -> None:
    await stand.put("a", "b")
    stand.breaks(FailWatch(version_expired(), after=3))
    stand.breaks(Delay(0.5), nth=2)
    stand.breaks(Trickle(size=100, pause_s=0.01), nth=2)
    async with stand.informed() as informer:
        await stand.drop("a")
        await stand.put("c", "d")
        assert stored(informer) == {"a", "b"}
        stand.told.clear()
        await stand.holds(informer, "b", "c", "d")
        assert {one.stored for one in stand.told} == {frozenset("bcd")}
        await stand.put("e")
        await stand.holds(informer, "b", "c", "d", "e")
        assert len(stand.transport.of("watch")) == 2


def _retrying(stand: Stand) -> Client:
    return Client(stand.transport, field_owner="tests", middleware=[RetryMiddleware(random.Random(1))])


async def t70_a_throttled_write_is_sent_again_until_it_is_let_through(stand: Stand) -> None:
    stand.breaks(throttled(1), verb="create", times=2)
    await _retrying(stand).create(ConfigMap(metadata=ObjectMeta(name="a", namespace=stand.namespace)))
    assert len(stand.transport.of("create")) == 3


async def t70_throttling_is_endured_ten_times(stand: Stand) -> None:
    stand.breaks(Refuse(429, "TooManyRequests", retry_after_s=0), verb="get", times=10)
    await stand.put("a")
    await _retrying(stand).get(ConfigMap, stand.key("a"))
    assert len(stand.transport.of("get")) == 11


async def t70_a_write_whose_connection_broke_is_not_sent_again_and_a_read_is(stand: Stand) -> None:
    await stand.put("a")
    stand.breaks(Drop(handled=True), verb="create")
    with pytest.raises(TransportError):
        await _retrying(stand).create(ConfigMap(metadata=ObjectMeta(name="b", namespace=stand.namespace)))
    assert len(stand.transport.of("create")) == 1
    stand.breaks(Drop(handled=True), verb="get", times=2)
    assert (await _retrying(stand).get(ConfigMap, stand.key("b"))).metadata.name == "b"
    assert len(stand.transport.of("get")) == 3


CASES: dict[str, Case] = {
    "T02 an expired first page": t02_an_expired_first_page_is_asked_for_again_at_once,
    "T03 too large, as an answer": t03_a_version_that_is_too_large(legacy=False, within=False),
    "T03 too large, as an event": t03_a_version_that_is_too_large(legacy=False, within=True),
    "T03 too large without a cause, as an answer": t03_a_version_that_is_too_large(legacy=True, within=False),
    "T03 too large without a cause, as an event": t03_a_version_that_is_too_large(legacy=True, within=True),
    "T05 a watch that closes at once": t05_a_watch_that_closes_at_once_is_opened_ever_more_rarely,
    "T06 a throttled watch": t06_a_throttled_watch_waits_and_goes_on_where_it_was,
    "T06 a throttled list": t06_a_throttled_list_waits_as_asked,
    "T09 what went unseen": t09_what_went_unseen_is_told_once_and_before_what_came,
    "T11 a relist is invisible": t11_a_relist_is_invisible_until_it_is_whole_and_its_stream_goes_on,
    "T70 a throttled write": t70_a_throttled_write_is_sent_again_until_it_is_let_through,
    "T70 ten times": t70_throttling_is_endured_ten_times,
    "T70 broken connections": t70_a_write_whose_connection_broke_is_not_sent_again_and_a_read_is,
}
