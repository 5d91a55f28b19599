"""Scripted faults, latency and the request log of the fake API server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kaito.client.client import Client
from kaito.client.errors import Gone, InternalError, TooManyRequests, TransportError
from kaito.client.middleware import RetryMiddleware
from kaito.client.transport import Request
from kaito.kube.object_key import ObjectKey
from kaito.testing.fake_api import (
    CutWatch,
    Delay,
    Drop,
    FakeApi,
    Fault,
    Hang,
    LogEntry,
    Refuse,
    throttled,
    version_expired,
)

KEY = ObjectKey("a", "default")
PATH = "/apis/example.com/v1/namespaces/default/widgets"


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize(("handled", "stored"), [(False, 0), (True, 1)])
def test_a_dropped_request_may_or_may_not_have_happened(play: Any, make: Any, handled: bool, stored: int) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.faults.add(Fault(Drop(handled=handled), verb="create", resource="widgets"))
        with pytest.raises(TransportError) as caught:
            await client.create(make("a"))
        assert caught.value.sent
        assert len(api.store.select("widgets.example.com")) == stored

    play(main)


def test_a_refused_connection_was_never_sent(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.faults.add(Fault(Drop(sent=False), times=None))
        for _ in range(3):
            with pytest.raises(TransportError) as caught:
                await client.create(make("a"))
            assert not caught.value.sent
        api.faults.clear()
        await client.create(make("a"))

    play(main)


def test_a_fault_hits_the_nth_matching_request_and_no_other(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.faults.add(Fault(Refuse(500), verb="create", name="*", nth=2, times=2))
        outcomes = []
        for name in "abcd":
            await client.list(widget)
            try:
                await client.create(make(name))
                outcomes.append(True)
            except InternalError:
                outcomes.append(False)
        assert outcomes == [True, False, False, True]

    play(main)


def test_a_fault_can_mean_one_object_or_a_subresource(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        for name in "ab":
            await client.create(make(name))
        api.faults.add(Fault(Refuse(500), resource="widgets/status", name="a", times=None))
        await client.patch(widget, KEY, {"spec": {"size": 2}})
        await client.status.patch(widget, ObjectKey("b", "default"), {"status": {"phase": "Up"}})
        with pytest.raises(InternalError):
            await client.status.patch(widget, KEY, {"status": {"phase": "Up"}})

    play(main)


def test_throttling_says_how_long_to_wait(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.faults.add(Fault(throttled(7)))
        with pytest.raises(TooManyRequests) as caught:
            await client.create(make("a"))
        assert caught.value.retry_after_s == 7

    play(main)


def test_the_clients_retries_work_on_it(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.faults.add(Fault(throttled(2), times=3))
        retrying = Client(api.transport(), field_owner="tests", middleware=[RetryMiddleware()])
        await retrying.create(make("a"))
        assert [entry.status for entry in api.log] == [429, 429, 429, 201]
        assert now() > 6

    play(main)


def test_an_expired_list_is_gone(play: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.faults.add(Fault(version_expired(), verb="list"))
        with pytest.raises(Gone):
            await client.list(widget)

    play(main)


def test_a_delay_comes_before_the_effect_and_a_timeout_in_it_prevents_that(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.faults.add(Fault(Delay(60), nth=1))
        with pytest.raises(TransportError, match="timed out"):
            await client.transport.send(Request("POST", PATH, "create", body=b"{}", timeout_s=30))
        assert 30 <= now() < 31
        assert api.log[-1].status == 0
        api.faults.add(Fault(Delay(20)))
        await client.create(make("a"))
        assert now() > 50

    play(main)


def test_a_hanging_request_ends_with_the_clients_patience(play: Any) -> None:
    async def main(api: FakeApi, client: Client) -> float:
        api.faults.add(Fault(Hang()))
        with pytest.raises(TransportError, match="timed out"):
            await client.transport.send(Request("GET", PATH, "list", timeout_s=30))
        return now()

    assert play(main) == 30


def test_a_cancelled_write_happened_only_if_the_server_had_it(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        early = asyncio.create_task(client.create(make("early")))
        await asyncio.sleep(0.0001)
        early.cancel()
        late = asyncio.create_task(client.create(make("late")))
        stored = asyncio.Event()
        api.store.subscribe(lambda _: stored.set())
        await stored.wait()
        late.cancel()
        for task in (early, late):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert [key.name for key, _ in api.store.select("widgets.example.com")] == ["late"]

    play(main)


@pytest.mark.parametrize(
    ("how", "ends"), [("reset", "reset by peer"), ("silence", "timed out"), ("expire", "Expired"), ("close", "")]
)
def test_a_cut_watch_ends_after_so_many_events(play: Any, make: Any, widget: Any, how: Any, ends: str) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        for name in "abc":
            await client.create(make(name))
        api.faults.add(Fault(CutWatch(after=2, how=how), verb="watch"))
        seen, error = [], ""
        try:
            async for event in client.watch(widget):
                seen.append(event.object.metadata.name)
        except (TransportError, Gone) as caught:
            error = str(caught)
        assert seen == ["a", "b"]
        assert ends in error
        assert bool(error) is bool(ends)

    play(main)


def test_the_log_tells_what_was_asked_and_answered(play: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(make("a"))
        await client.delete(widget, KEY)
        create, delete = api.log
        assert create == LogEntry(create.time_s, "create", PATH, create.query, create.body, 201)
        assert '"name":"a"' in create.body
        assert (delete.verb, delete.path, delete.status) == ("delete", f"{PATH}/a", 200)
        assert 0 < create.time_s < delete.time_s
        await client.create(make("b", labels={"long": "x" * 63, "longer": "y" * 63, "longest": "z" * 63}))
        assert api.log[-1].body.startswith("sha256:")

    play(main)


def test_the_seed_decides_latencies(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> list[LogEntry]:
        await asyncio.gather(*(client.create(make(f"w{number}")) for number in range(10)))
        return list(api.log)

    assert play(main, seed=1) == play(main, seed=1)
    assert [entry.body for entry in play(main, seed=1)] != [entry.body for entry in play(main, seed=2)]
