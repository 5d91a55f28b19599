"""Scripted faults of the fake API server, behind the transport and over HTTP; latency and the request log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from kaito.client import wire
from kaito.client.client import Client
from kaito.client.errors import (
    ApiError,
    Gone,
    InternalError,
    KubeError,
    NotFound,
    ServerTimeout,
    TooManyRequests,
    TransportError,
)
from kaito.client.middleware import RetryMiddleware
from kaito.client.transport import AiohttpTransport, Request
from kaito.kube.object_key import ObjectKey
from kaito.testing import eventually
from kaito.testing.fake_api import (
    Alter,
    CutAnswer,
    CutWatch,
    Delay,
    Drop,
    FailWatch,
    FakeApi,
    FakeApiServer,
    Fault,
    Hang,
    LogEntry,
    Refuse,
    Trickle,
    throttled,
    version_expired,
    version_too_large,
)

KEY = ObjectKey("a", "default")
PATH = "/apis/example.com/v1/namespaces/default/widgets"


Main = Callable[[FakeApi, Client], Awaitable[Any]]


@pytest.fixture(params=["transport", "http"])
def both(request: pytest.FixtureRequest, play: Any, widget: Any) -> Any:
    """Runs as `play` does, and once more over HTTP in real time."""
    if request.param == "transport":
        return play

    def over_http(main: Main, **options: Any) -> Any:
        async def body() -> Any:
            api = FakeApi(**options)
            api.register(widget)
            async with FakeApiServer(api) as server:
                transport = AiohttpTransport(server.config, user_agent="fake-client")
                async with Client(transport, field_owner="tests") as client:
                    return await main(api, client)

        return asyncio.run(body())

    return over_http


def now() -> float:
    return asyncio.get_running_loop().time()


async def watched(client: Client, kind: Any, **options: Any) -> tuple[list[str], str]:
    """The names that a watch told of, and the error that it ended in."""
    seen: list[str] = []
    try:
        async for event in client.watch(kind, **options):
            seen.append(event.object.metadata.name)
    except KubeError as error:
        return seen, f"{type(error).__name__}: {error}"
    return seen, ""


async def lines(client: Client, **query: str) -> list[bytes]:
    """What a watch says, byte for byte, until it ends."""
    asked = (("watch", "true"), *query.items())
    stream = await client.transport.stream(Request("GET", PATH, "watch", query=asked, timeout_s=5))
    try:
        return [line async for batch in wire.lines(stream.chunks()) for line in batch]
    finally:
        await stream.aclose()


@pytest.mark.parametrize(("handled", "stored"), [(False, 0), (True, 1)])
def test_a_dropped_request_may_or_may_not_have_happened(both: Any, make: Any, handled: bool, stored: int) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.faults.add(Fault(Drop(handled=handled), verb="create", resource="widgets"))
        with pytest.raises(TransportError) as caught:
            await client.create(make("a"))
        assert caught.value.sent
        assert len(api.store.select("widgets.example.com")) == stored

    both(main)


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


def test_a_fault_hits_the_nth_matching_request_and_no_other(both: Any, make: Any, widget: Any) -> None:
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

    both(main)


def test_a_fault_can_mean_one_object_or_a_subresource(both: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        for name in "ab":
            await client.create(make(name))
        api.faults.add(Fault(Refuse(500), resource="widgets/status", name="a", times=None))
        await client.patch(widget, KEY, {"spec": {"size": 2}})
        await client.status.patch(widget, ObjectKey("b", "default"), {"status": {"phase": "Up"}})
        with pytest.raises(InternalError):
            await client.status.patch(widget, KEY, {"status": {"phase": "Up"}})

    both(main)


def test_throttling_says_how_long_to_wait(both: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.faults.add(Fault(throttled(7)))
        with pytest.raises(TooManyRequests) as caught:
            await client.create(make("a"))
        assert caught.value.retry_after_s == 7

    both(main)


def test_the_clients_retries_work_on_it(play: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.faults.add(Fault(throttled(2), times=3))
        retrying = Client(api.transport(), field_owner="tests", middleware=[RetryMiddleware()])
        await retrying.create(make("a"))
        assert [entry.status for entry in api.log] == [429, 429, 429, 201]
        assert now() > 6

    play(main)


def test_an_expired_list_is_gone(both: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.faults.add(Fault(version_expired(), verb="list"))
        with pytest.raises(Gone):
            await client.list(widget)

    both(main)


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


def test_a_hanging_request_ends_with_the_clients_patience(both: Any) -> None:
    async def main(api: FakeApi, client: Client) -> float:
        began = now()
        api.faults.add(Fault(Hang()))
        with pytest.raises(TransportError, match="timed out") as caught:
            await client.transport.send(Request("GET", PATH, "list", timeout_s=0.3))
        assert caught.value.timed_out
        assert caught.value.sent
        return now() - began

    assert 0.3 <= both(main) < 2


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


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize(
    ("how", "ends"), [("reset", "reset by peer"), ("silence", "timed out"), ("expire", "Expired"), ("close", "")]
)
def test_a_cut_watch_ends_after_so_many_events(
    both: Any, make: Any, widget: Any, how: Any, ends: str, torn: bool
) -> None:
    if torn and how == "expire":
        with pytest.raises(ValueError, match="whole line"):
            CutWatch(after=2, how=how, torn=True)
        return

    async def main(api: FakeApi, client: Client) -> None:
        for name in "abc":
            await client.create(make(name))
        api.faults.add(Fault(CutWatch(after=2, how=how, torn=torn), verb="watch"))
        # A watch's own patience is five seconds more than it asks the server for.
        seen, error = await watched(client, widget, timeout_s=-4)
        assert seen == ["a", "b"]
        assert ends in error
        assert bool(error) is bool(ends)

    both(main)


def test_a_torn_watch_ends_within_a_line(both: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        for name in "ab":
            await client.create(make(name))
        whole = api.faults.add(Fault(CutWatch(after=2, how="close"), verb="watch"))
        expected = b"".join([line + b"\n" for line in await lines(client)])
        api.faults.remove(whole)
        api.faults.add(Fault(CutWatch(after=1, how="close", torn=True), verb="watch"))
        stream = await client.transport.stream(Request("GET", PATH, "watch", query=(("watch", "1"),)))
        got = b"".join([chunk async for chunk in stream.chunks()])
        await stream.aclose()
        assert got != expected
        assert expected.startswith(got)
        assert got.count(b"\n") == 1
        assert not got.endswith(b"\n")

    both(main)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (version_expired(), Gone),
        (version_expired("Gone"), Gone),
        (version_too_large(), ServerTimeout),
        (version_too_large(legacy=True), ServerTimeout),
        (throttled(3), TooManyRequests),
        (Refuse(500), InternalError),
    ],
)
@pytest.mark.parametrize("within", [False, True])
def test_a_watch_is_refused_or_ends_in_an_error_event(
    both: Any, make: Any, widget: Any, error: Refuse, kind: type[ApiError], within: bool
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(make("a"))
        api.faults.add(Fault(FailWatch(error, after=1) if within else error, verb="watch"))
        watch = client.watch(widget)
        if within:
            assert (await anext(watch)).object.metadata.name == "a"
        with pytest.raises(kind) as caught:
            await anext(watch)
        assert (caught.value.reason, caught.value.retry_after_s) == (error.reason, error.retry_after_s)
        assert [cause.reason for cause in caught.value.causes] == ([error.cause] if error.cause else [])

    both(main)


def test_a_slow_answer_comes_whole_and_may_outlast_the_clients_patience(both: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(make("a"))
        api.faults.add(Fault(Trickle(size=50, pause_s=0.01), verb="list"))
        assert [one.metadata.name for one in await client.list(widget)] == ["a"]
        api.faults.add(Fault(Trickle(size=1, pause_s=0.05), verb="list", nth=1))
        with pytest.raises(TransportError, match="timed out"):
            await client.transport.send(Request("GET", PATH, "list", timeout_s=0.3))

    both(main)


def test_a_slow_watch_says_the_same(both: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        for name in "ab":
            await client.create(make(name))
        api.faults.add(Fault(CutWatch(after=2, how="close"), verb="watch", times=2))
        expected = await lines(client)
        api.faults.add(Fault(Trickle(size=30, pause_s=0.001), verb="watch"))
        assert await lines(client) == expected

    both(main)


def test_an_answer_that_is_cut_in_its_middle_is_no_answer(both: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(make("a"))
        api.faults.add(Fault(CutAnswer(), verb="list"))
        with pytest.raises(TransportError) as caught:
            await client.list(widget)
        assert caught.value.sent
        assert not caught.value.timed_out
        assert len(await client.list(widget)) == 1

    both(main)


def test_a_list_can_be_garbled_of_another_kind_or_hold_an_object_without_uid(both: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        for name in "ab":
            await client.create(make(name))

        async def listed(alter: Alter) -> bytes:
            api.faults.add(Fault(alter, verb="list"))
            return (await client.transport.send(Request("GET", PATH, "list"))).body

        with pytest.raises(msgspec.DecodeError):
            wire.decode_page(await listed(Alter("malformed")))
        other = json.loads(await listed(Alter("other_kind")))
        assert (other["kind"], len(other["items"])) == ("ImposterList", 2)
        items = json.loads(await listed(Alter("without_uid")))["items"]
        assert ["uid" in item["metadata"] for item in items] == [False, True]

    both(main)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("drop", ["a", "c"]),
        ("double", ["a", "b", "b", "c"]),
        ("repeat", ["a", "b", "c", "b"]),
        ("malformed", ["a", "no json", "c"]),
        ("without_uid", ["a", "b without uid", "c"]),
        ("other_kind", ["a", "b as Imposter", "c"]),
    ],
)
def test_an_event_of_a_watch_reaches_the_client_as_something_else(
    both: Any, make: Any, how: Any, told: list[str]
) -> None:
    def tell(line: bytes) -> str:
        try:
            obj = json.loads(line)["object"]
        except ValueError:
            return "no json"
        uid = "" if "uid" in obj["metadata"] else " without uid"
        kind = "" if obj["kind"] == "Widget" else f" as {obj['kind']}"
        return f"{obj['metadata']['name']}{uid}{kind}"

    async def main(api: FakeApi, client: Client) -> None:
        for name in "abc":
            await client.create(make(name))
        api.faults.add(Fault(Alter(how, nth=2), verb="watch"))
        api.faults.add(Fault(CutWatch(after=len(told), how="close"), verb="watch"))
        assert [tell(line) for line in await lines(client)] == told

    both(main)


def test_only_events_of_the_wanted_type_are_counted(both: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        made = [await client.create(make(name)) for name in "ab"]
        await client.delete(widget, made[0].key)
        await client.create(make("c"))
        api.faults.add(Fault(Alter("drop", event="DELETED"), verb="watch"))
        api.faults.add(Fault(CutWatch(after=2, how="close"), verb="watch"))
        seen, _ = await watched(client, widget, resource_version=made[0].metadata.resource_version)
        assert seen == ["b", "c"]

    both(main)


def test_an_object_of_five_megabytes_comes_through_in_answers_and_in_events(both: Any, make: Any, widget: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        api.call("POST", PATH, make("big", annotations={"text": "x" * 5_000_000}).to_dict())
        assert len((await client.get(widget, ObjectKey("big", "default"))).metadata.annotations["text"]) == 5_000_000
        api.faults.add(Fault(CutWatch(after=1, how="close"), verb="watch"))
        assert await watched(client, widget) == (["big"], "")

    both(main)


def test_a_fault_can_ask_for_more_and_act_when_it_hits(both: Any, make: Any) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        acted: list[int] = []
        fault = api.faults.add(
            Fault(
                Drop(handled=True, act=lambda: acted.append(len(api.store.select("widgets.example.com")))),
                only=lambda request: b'"name":"b"' in (request.body or b""),
            )
        )
        await client.create(make("a"))
        assert not fault.has_hit
        with pytest.raises(TransportError):
            await client.create(make("b"))
        assert fault.has_hit
        assert acted == [2]

    both(main)


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


def test_over_http_the_server_can_be_away_and_come_back_at_its_address(widget: Any, make: Any) -> None:
    async def main() -> None:
        api = FakeApi()
        api.register(widget)
        async with (
            FakeApiServer(api) as server,
            Client(AiohttpTransport(server.config), field_owner="tests") as client,
        ):
            await client.create(make("a"))
            task = asyncio.create_task(watched(client, widget))
            await eventually(lambda: "watch" in [entry.verb for entry in api.log])
            async with server.away():
                _, error = await task
                assert error.startswith("TransportError")
                with pytest.raises(TransportError) as caught:
                    await client.list(widget)
                assert not caught.value.sent
            assert len(await client.list(widget)) == 1

    asyncio.run(main())


def test_over_http_a_path_that_nobody_serves_is_not_found_and_a_manager_is_named_by_its_user_agent(
    both: Any, make: Any, widget: Any
) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        with pytest.raises(NotFound, match=r"404 Unknown: .* nothing is served at that path"):
            await client.request(Request("GET", "/apis/nowhere.io/v1/things", "list"))
        await client.transport.send(
            Request("POST", PATH, "create", body=json.dumps(make("a").to_dict()).encode(), headers={})
        )
        (stored,) = api.objects(widget)
        assert stored["metadata"]["managedFields"][0]["manager"] == "fake-client"

    both(main)


@pytest.mark.parametrize(("how", "ends"), [("reset", "reset by peer"), ("close", ""), ("expire", "Expired")])
def test_every_watch_that_is_open_can_be_ended_now(both: Any, make: Any, widget: Any, how: Any, ends: str) -> None:
    async def main(api: FakeApi, client: Client) -> None:
        await client.create(make("a"))
        watches = [client.watch(widget) for _ in range(2)]
        for watch in watches:
            assert (await anext(watch)).object.metadata.name == "a"
        api.cut_watches(how)
        for watch in watches:
            with pytest.raises((TransportError, Gone) if ends else StopAsyncIteration, match=ends or None):
                await anext(watch)
        later = client.watch(widget)
        assert (await anext(later)).object.metadata.name == "a"
        await later.aclose()  # type: ignore[attr-defined]

    both(main)
