"""A proxy before an image registry that breaks what it is told to break, and counts what passes."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import ClientError, ClientSession, web

_CHUNK_BYTES = 1 << 16
_OF_A_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}

Act = Callable[["RegistryProxy", web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Fault:
    """What happens to some requests instead.

    Attributes:
        what: a pattern for `METHOD PATH?QUERY`.
        act: does it.
        times: how often.
    """

    what: str
    act: Act
    times: int = 1_000_000


@dataclass
class Seen:
    """A request that came by, and how many bytes of body went each way."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    answered: int = 0


SEEN = web.RequestKey("seen", Seen)


class RegistryProxy:
    """Serves on loopback in the registry's place; an asynchronous context manager.

    Args:
        upstream: host and port of the registry.
        tls: to serve https.

    Attributes:
        faults: the first one that fits a request happens to it.
        seen: all requests, in order.
        session: to ask the registry with.
    """

    def __init__(self, upstream: str, *faults: Fault, tls: ssl.SSLContext | None = None) -> None:
        self.upstream, self.faults, self._tls = upstream, list(faults), tls
        self.seen: list[Seen] = []

    async def __aenter__(self) -> Self:
        self.session = ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self.session.close()

    def of(self, what: str) -> list[Seen]:
        """Those requests that a pattern fits."""
        return [each for each in self.seen if re.search(what, f"{each.method} {each.path}")]

    async def forward(self, request: web.Request, *, sends: int = -1, answers: int = -1) -> web.StreamResponse:
        """Hands a request on; cuts the connections after so many bytes of the request, or of the answer."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_A_CONNECTION}
        body = await request.read() if request.can_read_body else b""
        seen = request[SEEN]
        if request.can_read_body:
            headers["Content-Length"] = str(len(body))
        url = f"http://{self.upstream}{request.raw_path}"
        data = _pieces(body, sends, seen) if body else None
        try:
            async with self.session.request(
                request.method, url, headers=headers, data=data, allow_redirects=False
            ) as got:
                kept = {name: value for name, value in got.headers.items() if name.lower() not in _OF_A_CONNECTION}
                response = web.StreamResponse(status=got.status, headers=kept)
                response.content_length = got.content_length
                await response.prepare(request)
                async for chunk in got.content.iter_chunked(_CHUNK_BYTES):
                    part = chunk if answers < 0 else chunk[: answers - seen.answered]
                    await response.write(part)
                    seen.answered += len(part)
                    if len(part) < len(chunk):
                        return reset(request)
                return response
        except ClientError:
            return reset(request)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(request.method, request.raw_path, dict(request.headers))
        self.seen.append(seen)
        request[SEEN] = seen
        for fault in self.faults:
            if fault.times and re.search(fault.what, f"{request.method} {request.raw_path}"):
                fault.times -= 1
                return await fault.act(self, request)
        return await self.forward(request)


def reset(request: web.Request) -> web.Response:
    """Closes the connection, with nothing more said."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def cut_answer(after_bytes: int) -> Act:
    """The answer ends after so many bytes."""
    return lambda proxy, request: proxy.forward(request, answers=after_bytes)


def cut_request(after_bytes: int) -> Act:
    """The registry gets so many bytes of the body; then both connections break."""
    return lambda proxy, request: proxy.forward(request, sends=after_bytes)


def answer(status: int, body: str | bytes = b"", **headers: str) -> Act:
    """Another answer; `_` in the names of headers is `-`."""

    async def act(_: RegistryProxy, request: web.Request) -> web.StreamResponse:
        await request.read()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return act


def then_lost() -> Act:
    """The registry does it, and its answer is lost."""

    async def act(proxy: RegistryProxy, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_A_CONNECTION}
        url, body = f"http://{proxy.upstream}{request.raw_path}", await request.read()
        async with proxy.session.request(request.method, url, headers=headers, data=body) as got:
            await got.read()
        return reset(request)

    return act


def silent() -> Act:
    """Nothing is read, and nothing answered, until the other side goes."""

    async def act(_: RegistryProxy, request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    return act


async def _pieces(body: bytes, limit: int, seen: Seen) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _CHUNK_BYTES):
        end = start + _CHUNK_BYTES if limit < 0 else min(start + _CHUNK_BYTES, limit)
        seen.sent += len(body[start:end])
        yield body[start:end]
        if end == limit:
            raise ConnectionResetError
