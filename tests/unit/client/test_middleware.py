"""Middleware: what is tried again and what never is, what is counted, what is logged."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from kaito.client import Client, Config, KubeError, TransportError
from kaito.client.credentials import TokenFileCredentials
from kaito.client.middleware import (
    MAX_RETRIES,
    WRITES_IN_FLIGHT,
    Handler,
    RetryMiddleware,
    WriteLimitMiddleware,
    chain,
    dry_run,
    usual_middleware,
)
from kaito.client.transport import Request, Response
from kaito.kube.core_v1 import ConfigMap, Secret
from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import ObjectMeta
from kaito.kube.object_key import ObjectKey
from kaito.testing import virtual_clock

RESET = TransportError("reset", sent=True)
TIMED_OUT = TransportError("timed out", sent=True, timed_out=True)
REFUSED = TransportError("refused", sent=False)
OK = Response(200, {}, b"{}")


def later(status: int, wait_s: str = "2") -> Response:
    return Response(status, {"retry-after": wait_s}, b"{}")


class Script:
    """A handler that does what it is told, and then answers 200."""

    def __init__(self, *outcomes: Response | Exception) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0

    async def __call__(self, _: Request) -> Response:
        self.calls += 1
        outcome = self.outcomes.pop(0) if self.outcomes else OK
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def timed(work: Awaitable[Response]) -> tuple[Response, float]:
    async def main() -> tuple[Response, float]:
        return await work, asyncio.get_running_loop().time()

    return virtual_clock.run(main())


def retried(script: Script, method: str = "GET") -> tuple[Response, float]:
    return timed(RetryMiddleware(random.Random(1))(Request(method, "/x", "verb"), script))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_an_answer_with_retry_after_is_waited_for_and_tried_again_whatever_the_verb(status: int, method: str) -> None:
    script = Script(later(status), later(status))
    response, seconds = retried(script, method)
    assert (response.status, script.calls) == (200, 3)
    assert 4.0 <= seconds <= 5.0


def test_an_answer_without_retry_after_is_an_answer() -> None:
    script = Script(Response(503, {}, b""))
    response, seconds = retried(script)
    assert (response.status, script.calls, seconds) == (503, 1, 0.0)


def test_a_conflict_with_retry_after_is_an_answer() -> None:
    assert retried(Script(later(409)))[0].status == 409


def test_t70_throttling_is_endured_ten_times_and_then_told() -> None:
    script = Script(*[later(429, "1")] * 100)
    response, _ = retried(script)
    assert (response.status, script.calls) == (429, MAX_RETRIES + 1)


def test_a_read_whose_connection_broke_is_sent_again_at_once_and_then_after_a_second() -> None:
    script = Script(RESET, RESET)
    response, seconds = retried(script)
    assert (response.status, script.calls) == (200, 3)
    assert 1.0 <= seconds <= 1.25
    assert retried(Script(RESET))[1] == 0.0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_write_whose_connection_broke_is_never_sent_again(method: str) -> None:
    script = Script(RESET)
    with pytest.raises(TransportError):
        retried(script, method)
    assert script.calls == 1


@pytest.mark.parametrize("error", [TIMED_OUT, REFUSED])
def test_a_read_that_timed_out_or_found_no_server_is_not_sent_again(error: TransportError) -> None:
    script = Script(error)
    with pytest.raises(TransportError):
        retried(script)
    assert script.calls == 1


def test_a_wait_that_would_hold_the_caller_for_long_is_left_to_it() -> None:
    script = Script(later(429, "600"))
    response, took_s = timed(RetryMiddleware(random.Random(1))(Request("POST", "/x", "create"), script))
    assert (response.status, script.calls, took_s) == (429, 1, 0.0)


def test_waits_add_up_to_a_bound() -> None:
    script = Script(*[later(429, "4")] * 9)
    response, took_s = timed(RetryMiddleware(random.Random(1))(Request("POST", "/x", "create"), script))
    assert (response.status, script.calls) == (429, 3)
    assert took_s <= 2 * 4 * 1.25


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({"retry-after": "2"}, 2.0),
        # The server's clock is years from ours: only the difference to its own Date counts.
        ({"retry-after": "Wed, 21 Oct 2015 07:28:03 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 3.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_taken_as_seconds_and_as_a_date(headers: dict[str, str], expected_s: float) -> None:
    response, seconds = retried(Script(Response(429, headers, b"")))
    assert response.status == 200
    assert expected_s <= seconds <= expected_s * 1.25


class Gate:
    """A handler that keeps each request until it is told to let it go, and says who is in."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.order: list[str] = []
        self._open = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        self.inside.append(request.path)
        self.order.append(request.path)
        await asyncio.sleep(1.0)
        self.inside.remove(request.path)
        return OK


def write(path: object) -> Request:
    return Request("POST", str(path), "create")


def test_no_more_writes_are_under_way_than_the_limit_and_they_go_in_the_order_they_came() -> None:
    gate, most = Gate(), 0
    limit = WriteLimitMiddleware(2)

    async def main() -> float:
        nonlocal most
        tasks = [asyncio.create_task(limit(write(number), gate)) for number in range(6)]
        for moment in range(3):
            await asyncio.sleep(0.5 if moment == 0 else 1.0)
            most = max(most, len(gate.inside))
        await asyncio.gather(*tasks)
        return asyncio.get_running_loop().time()

    assert virtual_clock.run(main()) == 3.0
    assert most == 2
    assert gate.order == ["0", "1", "2", "3", "4", "5"]


def test_reads_pass_writes_that_wait() -> None:
    gate = Gate()
    limit = WriteLimitMiddleware(1)

    async def main() -> None:
        tasks = [
            asyncio.create_task(limit(request, gate)) for request in (write(1), write(2), Request("GET", "r", "get"))
        ]
        await asyncio.sleep(0.5)
        assert gate.inside == ["1", "r"]
        await asyncio.gather(*tasks)

    virtual_clock.run(main())


def test_a_write_that_is_cancelled_while_it_waits_was_never_sent_and_holds_nobody_up() -> None:
    gate = Gate()
    limit = WriteLimitMiddleware(1)

    async def main() -> float:
        tasks = [asyncio.create_task(limit(write(number), gate)) for number in range(3)]
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        return asyncio.get_running_loop().time()

    assert virtual_clock.run(main()) == 2.0
    assert gate.order == ["0", "2"]


def test_a_write_that_waits_for_its_next_try_holds_no_place() -> None:
    chained = usual_middleware(rng=random.Random(1), writes_in_flight=1)

    async def main() -> list[str]:
        order: list[str] = []

        async def handler(request: Request) -> Response:
            order.append(request.path)
            return later(429) if order == ["first"] else OK

        handle = chain(chained, handler)
        await asyncio.gather(handle(write("first")), handle(write("second")))
        return order

    assert virtual_clock.run(main()) == ["first", "second", "first"]


def test_a_write_that_is_cancelled_before_its_turn_is_not_seen_by_the_inner_middleware() -> None:
    seen: list[str] = []
    gate = Gate()

    async def inner(request: Request, handler: Handler) -> Response:
        seen.append(request.path)
        return await handler(request)

    handle = chain(usual_middleware(inner=[inner], writes_in_flight=1), gate)

    async def main() -> None:
        first, second = (asyncio.ensure_future(handle(write(name))) for name in ("first", "second"))
        await asyncio.sleep(0.5)
        second.cancel()
        await asyncio.wait([first, second])

    virtual_clock.run(main())
    assert seen == ["first"]


def test_outer_middleware_sees_a_call_once_and_inner_middleware_sees_each_try() -> None:
    seen: list[str] = []

    def named(name: str) -> Any:
        async def middleware(request: Request, handler: Handler) -> Response:
            seen.append(name)
            return await handler(request)

        return middleware

    usual = usual_middleware(outer=[named("outer")], inner=[named("inner")], rng=random.Random(1))
    timed(chain(usual, Script(later(429)))(write("x")))
    assert seen == ["outer", "inner", "inner"]


def test_waiting_writes_are_counted_and_their_waits_timed() -> None:
    registry, gate = CollectorRegistry(), Gate()
    limit = WriteLimitMiddleware(1, registry)

    async def main() -> None:
        tasks = [asyncio.create_task(limit(write(number), gate)) for number in range(3)]
        await asyncio.sleep(0.5)
        assert registry.get_sample_value("rest_client_writes_waiting") == 2
        await asyncio.gather(*tasks)

    virtual_clock.run(main())
    assert registry.get_sample_value("rest_client_writes_waiting") == 0
    waited = "rest_client_rate_limiter_duration_seconds"
    assert registry.get_sample_value(f"{waited}_count", {"verb": "create"}) == 3
    assert registry.get_sample_value(f"{waited}_sum", {"verb": "create"}) == pytest.approx(3.0)


def test_a_limit_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ValueError, match="limit 0: must be at least 1"):
        WriteLimitMiddleware(0)


async def test_a_client_of_a_configuration_limits_its_writes(server: Any) -> None:
    async with Client.from_config(Config(server.url)) as client:
        server.default = "hang"
        arrived = asyncio.Event()
        server.on_request = lambda: arrived.set() if len(server.asked) == WRITES_IN_FLIGHT else None
        key = ObjectKey("a", "ns")
        writes = [asyncio.create_task(client.delete(ConfigMap, key)) for _ in range(WRITES_IN_FLIGHT + 8)]
        await arrived.wait()
        server.default = (200, {}, {"metadata": {"name": "a"}})
        await client.get(ConfigMap, key)
        assert [asked.method for asked in server.asked] == ["DELETE"] * WRITES_IN_FLIGHT + ["GET"]
        for task in writes:
            task.cancel()
        await asyncio.wait(writes)


async def test_a_dry_client_changes_nothing_whatever_the_verb(server: Any) -> None:
    async with Client.from_config(Config(server.url), middleware=[dry_run]) as client:
        server.default = (200, {}, {"metadata": {"name": "a", "namespace": "ns"}})
        key = ObjectKey("a", "ns")
        obj = await client.get(ConfigMap, key)
        await client.update(obj, dry_run=True)
        await client.create(obj)
        await client.patch(ConfigMap, key, {})
        await client.apply(obj)
        await client.delete(ConfigMap, key)
        await client.delete_collection(ConfigMap, namespace="ns")
    read, *writes = server.asked
    assert "dryRun" not in read.query
    assert [asked.query["dryRun"] for asked in writes] == ["All"] * 6
    assert [asked.json["dryRun"] for asked in writes if asked.method == "DELETE"] == [["All"]] * 2


async def test_the_name_of_a_client_is_its_user_agent_and_its_field_owner(server: Any) -> None:
    async with Client.from_config(Config(server.url), name="widgets") as client:
        server.default = (200, {}, {"metadata": {"name": "a", "namespace": "ns"}})
        await client.apply(await client.get(ConfigMap, ObjectKey("a", "ns")))
        await client.status.patch(ConfigMap, ObjectKey("a", "ns"), {})
    assert {asked.headers["user-agent"] for asked in server.asked} == {"widgets"}
    assert [asked.query.get("fieldManager") for asked in server.asked] == [None, "widgets", "widgets"]


async def test_no_secret_is_in_a_log_line_or_an_error_whatever_goes_wrong(
    server: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret-token")
    credentials = TokenFileCredentials(token)
    secret = Secret(metadata=ObjectMeta(name="a", namespace="ns"), string_data=FrozenDict(password="s3cret-value"))
    broken: list[Any] = [
        (401, {}, {}),
        (429, {"Retry-After": "0"}, {}),
        (500, {}, b"oops"),
        "reset",
        b"no HTTP at all\r\n\r\n",
    ]
    broken += [(200, {}, {"metadata": {"name": "a"}, "data": {"password": ["s3cret-value"]}})]
    said: list[str] = []
    with caplog.at_level(logging.DEBUG):
        async with Client.from_config(Config(server.url, credentials=credentials)) as client:
            for answer in broken:
                for write in (client.create(secret), client.apply(secret), client.update(secret)):
                    server.default = answer
                    with pytest.raises((KubeError, ValidationError)) as raised:
                        await write
                    said += [str(raised.value), repr(raised.value), repr(raised.value.__cause__)]
    said += [str(vars(record)) for record in caplog.records]
    assert len(server.asked) > len(broken)
    assert [text for text in said if "s3cret" in text] == []
