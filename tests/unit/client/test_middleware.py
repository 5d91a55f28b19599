"""Middleware: what is tried again and what never is, what is counted, what is logged."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kaito.client import Client, Config, TransportError, Unauthorized
from kaito.client.credentials import TokenFileCredentials
from kaito.client.middleware import (
    MAX_RETRIES,
    Handler,
    MetricsMiddleware,
    RetryMiddleware,
    WarningMiddleware,
    chain,
)
from kaito.client.transport import Request, Response
from kaito.kube.core_v1 import ConfigMap
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


def timed(work: Coroutine[Any, Any, Response]) -> tuple[Response, float]:
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


def test_throttling_is_endured_ten_times_and_then_told() -> None:
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


def test_a_401_is_tried_once_more_and_then_told() -> None:
    script = Script(Response(401, {}, b""))
    assert retried(script)[0].status == 200
    script = Script(*[Response(401, {}, b"")] * 5)
    assert retried(script)[0].status == 401
    assert script.calls == 2


async def test_a_rotated_token_is_picked_up_by_one_401(server: Any, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    async with Client.from_config(Config(server.url, credentials=TokenFileCredentials(token))) as client:
        wire = {"metadata": {"name": "a"}}
        server.script = [(200, {}, wire), (401, {}, {}), (200, {}, wire)]
        await client.get(ConfigMap, ObjectKey("a", "ns"))
        token.write_text("new\n")
        await client.get(ConfigMap, ObjectKey("a", "ns"))
        assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer old"] * 2 + ["Bearer new"]
        server.default = (401, {}, {})
        with pytest.raises(Unauthorized):
            await client.get(ConfigMap, ObjectKey("a", "ns"))


async def test_a_client_reads_through_a_connection_that_the_server_had_closed_and_never_writes_through_it(
    server: Any,
) -> None:
    async with Client.from_config(Config(server.url), name="widgets") as client:
        server.default = (200, {}, {"metadata": {"name": "a", "namespace": "ns"}})
        obj = await client.get(ConfigMap, ObjectKey("a", "ns"))
        server.script = ["reset"]
        await client.get(ConfigMap, ObjectKey("a", "ns"))
        for write in (client.update(obj), client.delete(ConfigMap, obj.key), client.create(obj)):
            server.script = ["reset"]
            asked = len(server.asked)
            with pytest.raises(TransportError):
                await write
            assert len(server.asked) == asked + 1
        assert {asked.headers["user-agent"] for asked in server.asked} == {"widgets"}


def test_the_chain_runs_the_first_middleware_outermost() -> None:
    seen: list[str] = []

    def named(name: str) -> Any:
        async def middleware(request: Request, handler: Handler) -> Response:
            seen.append(f"{name} in")
            response = await handler(request)
            seen.append(f"{name} out")
            return response

        return middleware

    async def main() -> Response:
        return await chain([named("a"), named("b")], Script())(Request("GET", "/x", "get"))

    virtual_clock.run(main())
    assert seen == ["a in", "b in", "b out", "a out"]


def test_each_warning_of_the_server_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    warn = WarningMiddleware()
    texts = ["one", "one", "two", "one"]

    async def main() -> None:
        for text in texts:
            await warn(Request("GET", "/x", "get"), Script(Response(200, {"warning": text}, b"")))

    with caplog.at_level(logging.WARNING):
        virtual_clock.run(main())
    assert [getattr(record, "warning", "") for record in caplog.records] == ["one", "two"]


def test_requests_are_counted_and_timed_under_client_gos_names_failures_too() -> None:
    registry = CollectorRegistry()
    metrics = MetricsMiddleware(registry, "https://api.example:6443")

    async def main() -> None:
        for outcome in (OK, Response(409, {}, b""), RESET):
            try:
                await metrics(Request("PUT", "/x", "update"), Script(outcome))
            except TransportError:
                continue

    virtual_clock.run(main())
    for code in ("200", "409", "<error>"):
        labels = {"code": code, "method": "PUT", "host": "api.example:6443"}
        assert registry.get_sample_value("rest_client_requests_total", labels) == 1
    labels = {"verb": "update", "host": "api.example:6443"}
    assert registry.get_sample_value("rest_client_request_duration_seconds_count", labels) == 3


def test_a_wait_that_would_hold_the_caller_for_long_is_left_to_it() -> None:
    script = Script(later(429, "600"))
    response, took_s = timed(RetryMiddleware(random.Random(1))(Request("POST", "/x", "create"), script))
    assert (response.status, script.calls, took_s) == (429, 1, 0.0)


def test_waits_add_up_to_a_bound() -> None:
    script = Script(*[later(429, "4")] * 9)
    response, took_s = timed(RetryMiddleware(random.Random(1))(Request("POST", "/x", "create"), script))
    assert (response.status, script.calls) == (429, 3)
    assert took_s <= 2 * 4 * 1.25
