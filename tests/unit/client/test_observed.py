"""ObservedTransport: what is counted and timed, and which warnings of the server are logged."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kaito.client import AiohttpTransport, Client, Config, ObservedTransport, Request, TransportError
from kaito.client.observed import REMEMBERED_WARNINGS, warnings
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def transport(server: Any, registry: CollectorRegistry) -> AsyncIterator[ObservedTransport]:
    inner = AiohttpTransport(Config(server.url))
    made = ObservedTransport(inner, registry=registry, host="https://api.example:6443")
    yield made
    await made.aclose()


def counted(registry: CollectorRegistry, code: str, method: str) -> float | None:
    labels = {"code": code, "method": method, "host": "api.example:6443"}
    return registry.get_sample_value("rest_client_requests_total", labels)


def timed(registry: CollectorRegistry, verb: str) -> float | None:
    labels = {"verb": verb, "host": "api.example:6443"}
    return registry.get_sample_value("rest_client_request_duration_seconds_count", labels)


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [getattr(record, "warning", "") for record in caplog.records]


async def test_requests_are_counted_and_timed_under_client_gos_names_failures_too(
    server: Any, transport: ObservedTransport, registry: CollectorRegistry
) -> None:
    server.script = [(200, {}, {}), (409, {}, {}), "reset"]
    await transport.send(Request("PUT", "/x", "update"))
    await transport.send(Request("PUT", "/x", "update"))
    with pytest.raises(TransportError):
        await transport.send(Request("PUT", "/x", "update"))
    assert [counted(registry, code, "PUT") for code in ("200", "409", "<error>")] == [1, 1, 1]
    assert timed(registry, "update") == 3


async def test_watches_are_counted_when_their_answer_begins(
    server: Any, transport: ObservedTransport, registry: CollectorRegistry
) -> None:
    server.script = [[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "hang"], (410, {}, {})]
    for _ in range(2):
        stream = await transport.stream(Request("GET", "/x", "watch"))
        await stream.aclose()
    assert [counted(registry, code, "GET") for code in ("200", "410")] == [1, 1]
    assert timed(registry, "watch") == 2


async def test_each_try_of_a_client_is_counted(server: Any, registry: CollectorRegistry) -> None:
    async with Client.from_config(Config(server.url), registry=registry) as client:
        server.script = ["reset", (200, {}, {"metadata": {"name": "a"}})]
        await client.get(ConfigMap, ObjectKey("a", "ns"))
        server.script = [(200, {}, b"")]
        assert [event async for event in client.watch(ConfigMap)] == []
    host = server.url.removeprefix("http://")
    labels = [{"code": code, "method": "GET", "host": host} for code in ("<error>", "200")]
    assert [registry.get_sample_value("rest_client_requests_total", each) for each in labels] == [1, 2]


async def test_each_warning_of_the_server_is_logged_once_in_its_own_words(
    server: Any, transport: ObservedTransport, caplog: pytest.LogCaptureFixture
) -> None:
    old = '299 - "v1beta1 Thing is deprecated; use \\"v1\\""'
    server.script = [
        (200, {"Warning": old}, {}),
        (200, {"Warning": [old, '299 - "unknown field, \\"spec.x\\""']}, {}),
        (200, {"Warning": '110 - "Response is Stale"'}, {}),
    ]
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await transport.send(Request("GET", "/x", "get"))
    assert warned(caplog) == ['v1beta1 Thing is deprecated; use "v1"', 'unknown field, "spec.x"']


async def test_warnings_of_watches_are_logged_too(
    server: Any, transport: ObservedTransport, caplog: pytest.LogCaptureFixture
) -> None:
    server.default = (200, {"Warning": '299 - "old"'}, {})
    with caplog.at_level(logging.WARNING):
        await (await transport.stream(Request("GET", "/x", "watch"))).aclose()
    assert warned(caplog) == ["old"]


async def test_many_distinct_warnings_cost_no_more_memory_than_a_thousand(
    server: Any, transport: ObservedTransport, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"text {number}" for number in range(REMEMBERED_WARNINGS + 1)]
    server.script = [
        (200, {"Warning": [f'299 - "{text}"' for text in texts[start : start + 50]]}, {})
        for start in range(0, len(texts), 50)
    ]
    with caplog.at_level(logging.WARNING):
        for _ in list(server.script):
            await transport.send(Request("GET", "/x", "get"))
        assert warned(caplog) == texts
        server.script = [(200, {"Warning": '299 - "text 1"'}, {}), (200, {"Warning": '299 - "text 0"'}, {})]
        await transport.send(Request("GET", "/x", "get"))
        await transport.send(Request("GET", "/x", "get"))
    assert warned(caplog) == [*texts, "text 0"]  # the oldest was forgotten, the second was not


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('299 - "a", 299 - "b, \\"c\\""', ["a", 'b, "c"']),
        ('299 - "a" "Wed, 21 Oct 2015 07:28:00 GMT"', ["a"]),
        ('299 kube "a", 199 - "b"', ["a"]),
        ("", []),
        ("nonsense", []),
        ('299 - "not closed', []),
    ],
)
def test_the_texts_of_warning_headers(header: str, expected: list[str]) -> None:
    assert list(warnings(header)) == expected
