"""AiohttpTransport on a socket: what is sent, how an answer can fail to come, and what is left behind."""

from __future__ import annotations

import asyncio
import gc
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kaito.client import AiohttpTransport, Config, LeadershipLost, Request, Response, ResponseStream, TransportError
from kaito.client.credentials import CredentialsError, StaticCredentials, TokenFileCredentials
from kaito.kube.core_v1 import ConfigMap
from kaito.kube.object_key import ObjectKey

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@pytest.fixture
async def transport(server: Any) -> AsyncIterator[AiohttpTransport]:
    credentials = StaticCredentials({"Authorization": "Bearer s3cret"})
    made = AiohttpTransport(Config(server.url, credentials=credentials), user_agent="widgets")
    yield made
    await made.aclose()


def get(path: str = "/x", **options: Any) -> Request:
    return Request("GET", path, "get", **options)


async def test_a_request_carries_credentials_user_agent_query_and_body(
    server: Any, transport: AiohttpTransport
) -> None:
    server.default = (201, {"X-Thing": "1"}, {"a": 1})
    query = (("labelSelector", "app=web,tier in (a,b)"), ("limit", "5"))
    request = Request("POST", "/api/v1/things", "create", query=query, body=b'{"b":2}', headers={"X-Own": "y"})
    response = await transport.send(request)
    assert (response.status, response.body, response.headers["x-thing"]) == (201, b'{"a": 1}', "1")
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.query) == ("POST", "/api/v1/things", dict(query))
    assert asked.body == b'{"b":2}'
    assert asked.headers["authorization"] == "Bearer s3cret"
    assert asked.headers["user-agent"] == "widgets"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["accept"] == "application/json"
    assert asked.headers["x-own"] == "y"


async def test_a_body_of_many_megabytes_is_sent_whole_and_with_its_length(
    server: Any, transport: AiohttpTransport
) -> None:
    body = b'{"data":"' + b"x" * 5_000_000 + b'"}'
    await transport.send(Request("POST", "/api/v1/things", "create", body=body))
    (asked,) = server.asked
    assert asked.body == body
    assert asked.headers["content-length"] == str(len(body))
    assert "transfer-encoding" not in asked.headers


async def test_names_cannot_leave_their_place_in_the_path(server: Any, transport: AiohttpTransport) -> None:
    await transport.send(get("/apis/g/v1/roles/system:a?b#c d"))
    assert server.asked[0].target == "/apis/g/v1/roles/system:a%3Fb%23c%20d"


async def test_headers_that_come_twice_are_joined(server: Any, transport: AiohttpTransport) -> None:
    server.default = (200, {"Warning": ['299 - "one"', '299 - "two"']}, {})
    assert (await transport.send(get())).headers["warning"] == '299 - "one", 299 - "two"'


async def test_redirects_are_not_followed_with_our_credentials(server: Any, transport: AiohttpTransport) -> None:
    server.default = (302, {"Location": "/elsewhere"}, {})
    assert (await transport.send(get())).status == 302
    assert len(server.asked) == 1


async def test_connections_are_kept(server: Any, transport: AiohttpTransport) -> None:
    for _ in range(5):
        await transport.send(get())
    assert server.connections == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PATCH", "GET"])
async def test_no_request_is_sent_twice_behind_our_back_when_a_kept_connection_breaks(
    server: Any, transport: AiohttpTransport, method: str
) -> None:
    await transport.send(get())
    server.script = ["reset"]
    with pytest.raises(TransportError) as raised:
        await transport.send(Request(method, "/x", "update", body=b"{}" if method != "GET" else None))
    assert raised.value.sent
    assert not raised.value.timed_out
    assert [asked.method for asked in server.asked] == ["GET", method]


async def test_a_refused_connection_was_not_sent(server: Any) -> None:
    gone = AiohttpTransport(Config("http://127.0.0.1:9"))
    with pytest.raises(
        TransportError, match=r"^GET /x: cannot connect to 127\.0\.0\.1:9: Connection refused$"
    ) as raised:
        await gone.send(get())
    assert not raised.value.sent
    assert not raised.value.timed_out
    await gone.aclose()


async def test_a_call_without_an_answer_times_out_and_says_so(server: Any, transport: AiohttpTransport) -> None:
    server.default = "hang"
    with pytest.raises(TransportError, match="GET /x: timed out") as raised:
        await transport.send(get(timeout_s=0.05))
    assert raised.value.sent
    assert raised.value.timed_out


async def test_a_call_whose_answer_stops_half_way_times_out_as_a_whole(
    server: Any, transport: AiohttpTransport
) -> None:
    server.default = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "hang"]
    with pytest.raises(TransportError) as raised:
        await transport.send(get(timeout_s=0.05))
    assert raised.value.timed_out


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", b"this is no HTTP\r\n\r\n", HEAD + b"5\r\nab", b""]
)
async def test_an_answer_that_is_cut_off_or_garbled_is_a_transport_error(
    server: Any, transport: AiohttpTransport, answer: bytes
) -> None:
    server.default = answer
    with pytest.raises(TransportError) as raised:
        await transport.send(get())
    assert raised.value.sent


async def test_a_stream_gives_what_comes_when_it_comes(server: Any, transport: AiohttpTransport) -> None:
    server.default = [HEAD, chunk(b"one\n"), "hang"]
    stream = await transport.stream(get(timeout_s=5.0))
    async for data in stream.chunks():
        assert data == b"one\n"
        break
    await stream.aclose()
    await stream.aclose()


async def test_a_stream_that_ends_ends_without_an_error(server: Any, transport: AiohttpTransport) -> None:
    server.default = [HEAD, chunk(b"one\n"), chunk(b"two\n"), b"0\r\n\r\n"]
    stream = await transport.stream(get())
    assert b"".join([data async for data in stream.chunks()]) == b"one\ntwo\n"
    await stream.aclose()


async def pull(stream: ResponseStream, got: list[bytes]) -> None:
    async for data in stream.chunks():
        got.append(data)


async def test_a_stream_that_is_silent_for_too_long_is_dead(server: Any, transport: AiohttpTransport) -> None:
    server.default = [HEAD, chunk(b"one\n"), "hang"]
    stream = await transport.stream(get(timeout_s=0.05))
    got: list[bytes] = []
    with pytest.raises(TransportError) as raised:
        await pull(stream, got)
    assert got == [b"one\n"]
    assert raised.value.timed_out
    await stream.aclose()


async def test_a_stream_that_breaks_raises_after_what_came(server: Any, transport: AiohttpTransport) -> None:
    server.default = HEAD + chunk(b"one\n")
    stream = await transport.stream(get())
    got: list[bytes] = []
    with pytest.raises(TransportError):
        await pull(stream, got)
    assert got == [b"one\n"]
    await stream.aclose()


async def test_watches_do_not_take_the_connections_of_calls(server: Any, transport: AiohttpTransport) -> None:
    server.script = [[HEAD, "hang"]] * 200
    streams = [await transport.stream(get()) for _ in range(200)]
    for call in (get(timeout_s=5.0), Request("PUT", "/x", "update", body=b"{}", timeout_s=5.0)):
        assert (await transport.send(call)).status == 200
    for stream in streams:
        await stream.aclose()


async def test_a_cancelled_call_gives_its_connection_up(server: Any, transport: AiohttpTransport) -> None:
    server.script = ["hang"]
    asked = asyncio.Event()
    server.on_request = asked.set
    call = asyncio.create_task(transport.send(get()))
    await asked.wait()
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert (await transport.send(get())).status == 200
    assert server.asked[-1].connection != server.asked[0].connection


async def test_closing_twice_or_unused_is_harmless(server: Any) -> None:
    made = AiohttpTransport(Config(server.url))
    await made.aclose()
    await made.send(get())
    await made.aclose()
    await made.aclose()
    gc.collect()
    assert len(server.asked) == 1


@pytest.fixture
async def rotating(server: Any, tmp_path: Path) -> AsyncIterator[tuple[AiohttpTransport, Path]]:
    token = tmp_path / "token"
    token.write_text("old\n")
    made = AiohttpTransport(Config(server.url, credentials=TokenFileCredentials(token)))
    yield made, token
    await made.aclose()


def tokens(server: Any) -> list[str]:
    return [asked.headers["authorization"].removeprefix("Bearer ") for asked in server.asked]


async def test_t75_a_rotated_token_is_read_again_after_one_401_and_the_request_sent_once_more(
    server: Any, rotating: tuple[AiohttpTransport, Path]
) -> None:
    transport, token = rotating
    await transport.send(get())
    token.write_text("new\n")
    server.script = [(401, {}, {}), (200, {}, {"read": "anew"})]
    response = await transport.send(Request("POST", "/x", "create", body=b"{}"))
    assert (response.status, response.body) == (200, b'{"read": "anew"}')
    assert tokens(server) == ["old", "old", "new"]
    assert [asked.body for asked in server.asked] == [b"", b"{}", b"{}"]
    await transport.send(get())
    assert tokens(server)[-1] == "new"


async def test_t75_a_watch_is_opened_again_with_the_token_that_came_meanwhile(
    server: Any, rotating: tuple[AiohttpTransport, Path]
) -> None:
    transport, token = rotating
    await transport.send(get())
    token.write_text("new\n")
    server.script = [(401, {}, {}), [HEAD, chunk(b"one\n"), "hang"]]
    stream = await transport.stream(get(timeout_s=5.0))
    assert stream.status == 200
    assert await anext(aiter(stream.chunks())) == b"one\n"
    assert tokens(server) == ["old", "old", "new"]
    await stream.aclose()


async def test_a_token_that_is_refused_twice_is_told_and_not_tried_for_ever(
    server: Any, rotating: tuple[AiohttpTransport, Path]
) -> None:
    transport, token = rotating
    await transport.send(get())
    token.write_text("new\n")
    server.default = (401, {}, {})
    assert (await transport.send(get())).status == 401
    assert tokens(server) == ["old", "old", "new"]


async def test_credentials_that_are_still_the_same_are_not_tried_again(
    server: Any, transport: AiohttpTransport, rotating: tuple[AiohttpTransport, Path]
) -> None:
    server.default = (401, {}, {})
    assert (await transport.send(get())).status == 401
    assert (await rotating[0].send(get())).status == 401
    assert len(server.asked) == 2


async def test_credentials_that_cannot_be_renewed_leave_no_connection_behind(server: Any, tmp_path: Path) -> None:
    class Broken:
        asked = 0

        async def headers(self) -> dict[str, str]:
            self.asked += 1
            if self.asked > 1:
                raise CredentialsError("the plugin is gone")
            return {}

        def invalidate(self, refused: object) -> None:
            pass

    transport = AiohttpTransport(Config(server.url, credentials=Broken()))
    server.default = (401, {}, {})
    with pytest.raises(CredentialsError, match="the plugin is gone"):
        await transport.send(get())
    await transport.aclose()


async def test_opening_a_stream_gives_up_when_no_answer_begins(server: Any, transport: AiohttpTransport) -> None:
    server.default = "hang"
    began = time.monotonic()
    with pytest.raises(TransportError) as raised:
        await transport.stream(get(timeout_s=0.05))
    assert raised.value.timed_out
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("how", ["send", "stream"])
async def test_a_server_that_takes_the_connection_and_says_nothing_is_given_up_in_the_time_to_connect(
    server: Any, how: str
) -> None:
    # It speaks no TLS: the handshake is never answered.
    config = Config(server.url.replace("http:", "https:"), ssl=ssl.create_default_context())
    transport = AiohttpTransport(config, connect_timeout_s=0.05)
    with pytest.raises(TransportError) as raised:
        await getattr(transport, how)(get(timeout_s=20.0))
    assert (raised.value.timed_out, raised.value.sent) == (True, False)
    await transport.aclose()


async def test_a_proxy_that_refuses_us_does_not_get_its_password_into_the_error(server: Any) -> None:
    server.default = (407, {}, {})
    proxy = server.url.replace("http://", "http://user:s3cret@")
    transport = AiohttpTransport(Config("https://127.0.0.1:9", proxy=proxy, ssl=ssl.create_default_context()))
    with pytest.raises(TransportError, match="407") as raised:
        await transport.send(get())
    assert "s3cret" not in f"{raised.value} {raised.value.__cause__} {raised.value.__cause__!r}"
    assert [asked.method for asked in server.asked] == ["CONNECT"]
    assert server.asked[0].headers["proxy-authorization"] == "Basic dXNlcjpzM2NyZXQ="
    await transport.aclose()


async def test_a_proxy_without_tls_is_told_who_we_are(server: Any) -> None:
    proxy = server.url.replace("http://", "http://user:s3cret@")
    transport = AiohttpTransport(Config("http://api.invalid", proxy=proxy))
    assert (await transport.send(get())).status == 200
    assert server.asked[0].target == "http://api.invalid/x"
    assert server.asked[0].headers["proxy-authorization"] == "Basic dXNlcjpzM2NyZXQ="
    await transport.aclose()


def test_no_secret_is_in_a_repr() -> None:
    secret = "s3cret"
    things: list[object] = [
        Request("PUT", "/x", "update", body=secret.encode(), headers={"Authorization": secret}),
        Response(200, {"x": secret}, secret.encode()),
        StaticCredentials({"Authorization": secret}),
        Config("http://h", credentials=StaticCredentials({"Authorization": secret}), proxy=f"http://u:{secret}@p"),
        AiohttpTransport(Config("http://h", credentials=StaticCredentials({"Authorization": secret}))),
    ]
    for thing in things:
        assert secret not in repr(thing)


def test_a_request_describes_itself_in_a_persons_words() -> None:
    request = Request("PATCH", "/p", "apply", resource=ConfigMap.resource_type, key=ObjectKey("a", "ns"))
    assert request.describe() == "apply configmaps ns/a"
    assert Request("GET", "/healthz", "get").describe() == "GET /healthz"


class Guard:
    """Lets so many questions pass, and refuses the next."""

    def __init__(self, passes: int) -> None:
        self.passes = passes

    def __call__(self) -> None:
        self.passes -= 1
        if self.passes < 0:
            raise LeadershipLost("another may lead")


@pytest.mark.parametrize("passes", [0, 1])
@pytest.mark.parametrize("size", [0, 10, 3_000_000])
async def test_a_guard_is_asked_once_more_when_the_connection_is_there_and_then_nothing_is_sent(
    server: Any, transport: AiohttpTransport, passes: int, size: int
) -> None:
    body = b"x" * size if size else None
    request = Request("POST", "/api/v1/things", "create", body=body, guard=Guard(passes))
    with pytest.raises(LeadershipLost, match="another may lead"):
        await transport.send(request)
    await transport.send(get("/after"))
    assert [asked.path for asked in server.asked] == ["/after"]


async def test_what_a_guard_lets_pass_is_sent_whole(server: Any, transport: AiohttpTransport) -> None:
    await transport.send(Request("PATCH", "/x", "patch", body=b'{"a":1}', content_type="a/b", guard=Guard(2)))
    await transport.send(Request("DELETE", "/x", "delete", guard=Guard(2)))
    patch, delete = server.asked
    assert (patch.body, patch.headers["content-type"], patch.headers["content-length"]) == (b'{"a":1}', "a/b", "7")
    assert (delete.body, "content-type" in delete.headers) == (b"", False)
