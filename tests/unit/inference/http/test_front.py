"""What every request passes before a route: health, keys, states, lengths of bodies, ids, counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from kaito.inference.http import bodies, make_app
from kaito.inference.http.protocol import LimitedHttp
from kaito.inference.http.settings import HttpSettings
from kaito.inference.options import Limits
from kaito.inference.runtime import Runtime, State, Status
from tests.unit.inference.serving import serving

HEALTH = ("/health", "/healthz", "/livez", "/readyz")
MEMORY_KIB = int(Path("/proc/meminfo").read_text().split()[1])
KEYS = frozenset({"first-key", "second-key"})


class Standing:
    """A runtime in a state, which nothing here asks for more."""

    name = "transformers"

    def __init__(self, state: State, detail: str = "") -> None:
        self._status = Status(state, detail)

    def status(self) -> Status:
        """As it was made."""
        return self._status


@contextlib.asynccontextmanager
async def client_of(
    state: State = State.READY, detail: str = "", **settings: Any
) -> AsyncIterator[tuple[aiohttp.ClientSession, FastAPI]]:
    app = make_app(cast(Runtime, Standing(state, detail)), HttpSettings(**settings))
    async with serving(app) as address, aiohttp.ClientSession(address) as session:
        yield session, app


def routes(app: FastAPI) -> Iterable[tuple[str, str]]:
    """Method and path of all, those of included routers among them, as the schema has them."""
    found = [(method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item]
    assert len(found) >= 12
    return found


@pytest.mark.parametrize(
    ("state", "status", "live"),
    [(State.READY, 200, 200), (State.LOADING, 503, 200), (State.DRAINING, 503, 200), (State.FAILED, 503, 503)],
)
async def test_health_tells_the_state_and_only_a_failed_engine_is_not_alive(
    state: State, status: int, live: int
) -> None:
    expected = {"status": "Healthy"} if state is State.READY else {"status": state.value, "detail": "why"}
    async with client_of(state, "why") as (session, _):
        for path in HEALTH:
            async with session.get(path) as answer:
                assert (answer.status, await answer.json()) == (live if path == "/livez" else status, expected)
                assert (answer.headers.get("Connection") == "close") == (state is State.DRAINING)
            async with session.head(path) as answer:
                assert (answer.status, await answer.read()) == (live if path == "/livez" else status, b"")


@pytest.mark.parametrize("state", [State.LOADING, State.DRAINING, State.FAILED])
async def test_what_needs_the_model_is_a_503_in_the_form_of_its_path(state: State) -> None:
    async with client_of(state, "why") as (session, app):
        for method, path in routes(app):
            if path in (*HEALTH, "/", "/metrics"):
                continue
            async with session.request(method, path) as answer:
                assert (path, answer.status) == (path, 503)
                assert int(answer.headers["Retry-After"]) > 0
                content = await answer.json()
                message = content["detail"] if path == "/chat" else content["error"]["message"]
                assert message == f"the server is {state.value}: why"
                assert (answer.headers.get("Connection") == "close") == (state is State.DRAINING)


@pytest.mark.parametrize("state", [State.READY, State.LOADING])
async def test_every_path_but_health_needs_a_key_in_every_state(state: State) -> None:
    async with client_of(state, api_keys=KEYS) as (session, app):
        strange = [
            ("GET", "/none"),
            ("GET", "/openapi.json"),
            ("POST", "/health/"),
            ("GET", "/x//health"),
            ("PUT", "/chat"),
        ]
        for method, path in [*routes(app), *strange]:
            async with session.request(method, path) as answer:
                assert (method, path, answer.status == 401) == (method, path, path not in HEALTH)
                assert (answer.headers.get("WWW-Authenticate") == "Bearer") == (path not in HEALTH)


def test_the_schema_lists_every_route_so_that_the_tests_of_keys_miss_none() -> None:
    app = make_app(cast(Runtime, Standing(State.READY)), HttpSettings())
    declared = {route.path for route in app.routes if isinstance(route, APIRoute)}
    assert declared <= {path for _, path in routes(app)}


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer first-key", 200),
        ("bearer second-key", 200),
        ("Bearer  second-key ", 200),
        ("Bearer first-ke", 401),
        ("Bearer first-key second-key", 401),
        ("Bearer", 401),
        ("first-key", 401),
        ("Basic first-key", 401),
        ("Bearer schlüssel", 401),
    ],
)
async def test_any_of_the_keys_opens_and_nothing_else(header: str, status: int) -> None:
    headers = {"Authorization": header}
    async with client_of(api_keys=KEYS) as (session, _), session.get("/", headers=headers) as answer:
        assert answer.status == status


async def test_a_missing_key_is_told_in_the_form_of_the_path() -> None:
    said = "the API key is missing or wrong; send the header Authorization: Bearer KEY"
    async with client_of(api_keys=KEYS) as (session, _):
        async with session.post("/chat") as answer:
            assert await answer.json() == {"detail": said}
        async with session.get("/v1/models") as answer:
            error = (await answer.json())["error"]
            assert (error["message"], error["code"]) == (said, "invalid_api_key")


async def _raw(
    session: aiohttp.ClientSession, head: str, *chunks: bytes, wait: bool = True
) -> tuple[int, dict[str, Any]]:
    """Sends a request as it is written here; gives status and answer. The connection has to be closed by the server."""
    url = session._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n")
        for chunk in chunks:
            writer.write(chunk)
        async with asyncio.timeout(10):
            answer = await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    top, _, body = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)


POST = "POST /chat HTTP/1.1\nHost: x\nContent-Type: application/json\n"
SMALL = Limits(max_body_bytes=1000)


@pytest.fixture
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little time for a client that was refused to send the rest: here it sends none."""
    monkeypatch.setattr(bodies, "_READ_ON_S", 0.05)


@pytest.mark.usefixtures("_in_haste")
async def test_a_length_that_is_too_long_is_refused_before_the_body_comes() -> None:
    async with client_of(limits=SMALL) as (session, _):
        status, answer = await _raw(session, f"{POST}Content-Length: 1001\n")
    assert (status, answer) == (413, {"detail": "the body is longer than 1000 bytes, which is what a request may have"})


@pytest.mark.usefixtures("_in_haste")
async def test_a_body_without_a_length_is_counted_as_it_comes() -> None:
    chunk = b"c8\r\n" + b"x" * 200 + b"\r\n"
    async with client_of(limits=SMALL) as (session, _):
        status, answer = await _raw(session, f"{POST}Transfer-Encoding: chunked\n", *[chunk] * 6)
        assert (status, answer["detail"][:24]) == (413, "the body is longer than ")
        openai = POST.replace("/chat", "/v1/completions")
        status, answer = await _raw(session, f"{openai}Transfer-Encoding: chunked\n", *[chunk] * 6)
        assert (status, answer["error"]["code"]) == (413, "request_too_large")


async def test_a_body_of_just_that_length_comes_through() -> None:
    body = b'{"prompt":""' + b" " * 987 + b"}"
    async with client_of(limits=SMALL) as (session, _), session.post("/chat", json=None, data=body) as answer:
        assert len(body) == 1000
        assert answer.status != 413


@pytest.mark.usefixtures("_in_haste")
async def test_a_body_that_does_not_come_to_its_end_is_a_408() -> None:
    async with client_of(limits=Limits(request_timeout_s=0.1)) as (session, _):
        status, answer = await _raw(session, f"{POST}Content-Length: 100\n", b'{"pro')
    assert (status, answer) == (408, {"detail": "the body did not come to its end within 0.1 s"})


async def _answer(session: aiohttp.ClientSession, *pieces: bytes) -> bytes:
    """Sends pieces, each when the last one has been read, and gives all that comes until the server closes."""
    url = session._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            async with asyncio.timeout(10):
                return await reader.read()
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


GET = b"GET /health HTTP/1.1\r\nHost: x\r\n"


async def test_headers_have_a_limit_whether_they_end_or_not() -> None:
    async with client_of() as (session, _):
        answer = await _answer(session, GET, *[b"X-A: %b\r\n" % (b"x" * 8000)] * 40)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
        answer = await _answer(session, GET, b"X-A: %b\r\nConnection: close\r\n\r\n" % (b"x" * 8000))
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_each_request_of_a_connection_has_that_limit_for_itself() -> None:
    one = GET + b"X-A: %b\r\n\r\n" % (b"x" * 30_000)
    last = GET + b"Connection: close\r\n\r\n"
    async with client_of() as (session, _):
        answer = await _answer(session, *[one] * 5, last)
    assert answer.count(b"HTTP/1.1 200 ") == 6


async def test_a_long_body_is_no_head() -> None:
    body = b'{"prompt": "%b"}' % (b"x" * 200_000)
    head = b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with client_of() as (session, _):
        answer = await _answer(session, head + body + GET + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.count(b"HTTP/1.1 200 ") == 1


async def test_what_comes_after_the_last_chunk_of_a_body_has_a_limit_whether_it_ends_or_not() -> None:
    head = b"POST /none HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    lines = [b"X-A: %b\r\n" % (b"x" * 8000)] * 100
    async with client_of() as (session, _):
        for pieces in (lines, [b"x" * 800_000]):
            answer = await _answer(session, head, b"2\r\n{}\r\n0\r\nX-B: ", *pieces)
            assert answer == b"" or b"HTTP/1.1 400 " in answer
        answer = await _answer(session, head + b"0\r\nX-A: 1\r\n\r\n" + GET + b"Connection: close\r\n\r\n")
        assert answer.count(b"HTTP/1.1 200 ") == 1


async def test_a_client_that_stops_to_read_is_cut_off_and_its_stream_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitedHttp, "stalled_s", 0.05)
    ended = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.ensure_future(receive())
        while not gone.done():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        ended.set()

    async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000})

    async with serving(endless) as address:
        _, writer = await asyncio.open_connection(*address.removeprefix("http://").split(":"))
        writer.write(GET + b"\r\n")
        async with asyncio.timeout(10):
            await ended.wait()
        writer.transport.abort()
    async with serving(at_once) as address, aiohttp.ClientSession(address) as session, session.get("/") as answer:
        assert len(await answer.read()) == 20_000_000


async def test_a_whole_answer_that_nobody_reads_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LimitedHttp, "stalled_s", 0.05)
    answered = asyncio.Event()

    async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000})
        answered.set()

    async with serving(at_once) as address:
        _, writer = await asyncio.open_connection(*address.removeprefix("http://").split(":"))
        writer.write(GET + b"\r\n")
        await answered.wait()
    writer.transport.abort()
    assert "timeout graceful shutdown exceeded" not in caplog.text


OFFERS = [b"Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\nUpgrade: h2c", b"upgrade\r\nUpgrade: websocket"]


@pytest.mark.parametrize("pieces", [1, 2, 400])
@pytest.mark.parametrize("offer", OFFERS)
async def test_a_request_that_offers_another_protocol_is_answered_with_its_body_read(offer: bytes, pieces: int) -> None:
    body = b'{"prompt": ""}'
    head = POST.replace("\n", "\r\n").encode() + b"Content-Length: %d\r\nConnection: %b\r\n\r\n" % (len(body), offer)
    whole = head + body + GET + b"Connection: close\r\n\r\n"
    size = -(-len(whole) // pieces)
    async with client_of() as (session, _):
        answer = await _answer(session, *(whole[start : start + size] for start in range(0, len(whole), size)))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Text generation parameter prompt required" in answer
    assert answer.count(b"HTTP/1.1 200 ") == 1


async def test_http_1_0_gets_a_stream_without_chunks_and_other_answers_as_they_are() -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"data: 1\n\n", b"data: 2\n\n"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: 3\n\n"})

    old = (GET + b"\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")
    async with serving(stream) as address, aiohttp.ClientSession(address) as session:
        head, _, body = (await _answer(session, old)).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
    async with client_of() as (session, _):
        assert (await _answer(session, old)).endswith(b'\r\n\r\n{"status":"Healthy"}')


async def test_this_is_no_proxy() -> None:
    async with client_of() as (session, _):
        assert (await _answer(session, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("length", [2_000, 300_000])
async def test_a_client_that_sends_all_the_same_reads_why_its_body_was_refused(length: int) -> None:
    head = b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length
    async with client_of(limits=Limits(max_body_bytes=100_000 if length > 100_000 else 1000)) as (session, _):
        assert (await _answer(session, head, b"x" * length)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("begun", [[], [GET]])
async def test_a_connection_on_which_no_request_comes_is_closed(
    begun: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LimitedHttp, "head_s", 0.05)
    async with client_of() as (session, _):
        assert await _answer(session, *begun) == b""


@pytest.mark.parametrize(
    ("given", "echoed"), [("abc-123", True), ("x" * 128, True), ("x" * 129, False), ("a b", False)]
)
async def test_the_id_of_a_request_is_echoed_or_made(given: str, echoed: bool) -> None:
    async with client_of() as (session, _), session.get("/", headers={"X-Request-Id": given}) as answer:
        made = answer.headers["X-Request-Id"]
        assert (made == given) == echoed
        assert made


async def test_requests_are_counted_by_route_and_refusals_by_reason() -> None:
    async with client_of(State.LOADING) as (session, _):
        for path in ("/health", "/v1/models", "/some/path/that/nobody/has"):
            async with session.get(path):
                pass
        async with session.get("/metrics") as answer:
            text = await answer.text()
    assert 'kaito_inference_http_requests_total{path="/health",status="503"} 1.0' in text
    assert 'kaito_inference_http_requests_total{path="other",status="503"} 2.0' in text
    assert 'kaito_inference_requests_refused_total{reason="unavailable"} 2.0' in text


@pytest.mark.parametrize(
    ("accept", "json_form"),
    [
        ("application/json", True),
        ("application/json, */*;q=0.5", True),
        ("*/*", False),
        (None, False),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", False),
        ("application/json;q=0.1, text/plain", False),
    ],
)
async def test_metrics_are_text_and_for_those_who_ask_the_json_of_the_first_kaito(
    accept: str | None, json_form: bool
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    async with client_of() as (session, _), session.get("/metrics", headers=headers) as answer:
        assert answer.status == 200
        assert (answer.content_type == "application/json") == json_form
        if json_form:
            content = await answer.json()
            assert content.keys() == {"gpu_info", "cpu_info"}
            assert (content["gpu_info"] is None) != (content["cpu_info"] is None)
        else:
            assert "kaito_inference_state" in await answer.text()


async def test_the_load_of_the_cpu_has_the_units_that_it_says() -> None:
    async with client_of() as (session, _), session.get("/metrics", headers={"Accept": "application/json"}) as answer:
        cpu = (await answer.json())["cpu_info"]
    if cpu is None:
        pytest.skip("this machine has a GPU")
    assert cpu["memory"]["total"] == f"{MEMORY_KIB / 1024**2:.2f} GB"
    assert 0 <= cpu["load_percentage"] <= 100
    assert cpu["total_cores"] >= 1


async def test_the_root_says_that_the_server_runs_even_while_it_loads() -> None:
    async with client_of(State.LOADING) as (session, _), session.get("/") as answer:
        assert (answer.status, await answer.json()) == (200, {"message": "Server is running"})
