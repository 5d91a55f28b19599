"""TransportServer: any transport, served over HTTP on loopback; what breaks in the transport breaks on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from kaito.client.errors import TransportError
from kaito.client.transport import Request, ResponseStream, Transport
from kaito.testing.fake_api.routes import verb_of

HOST = "127.0.0.1"
# The client's patience ends requests, not the server's.
_FOR_EVER_S = 7 * 86_400.0
_FLUSH_S = 1.0
_BODY_LIMIT = 64 * 2**20
_NOT_FORWARDED = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authorization"),
        *("host", "content-length", "content-type"),
        # Whoever serves has an identity of its own, and reads what passes.
        *("authorization", "accept-encoding"),
    }
)
_NOT_ANSWERED = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "trailer"})


class TransportServer:
    """Serves a transport over HTTP/1.1 on a free port of loopback; entering starts it, leaving closes all it holds.

    A `TransportError` resets the connection (RST), before or within the answer; a transport that says nothing leaves
    it open and silent, without FIN. Leaving it ends all requests that are open; it does not close the transport.

    Args:
        transport: where requests go; must belong to the same event loop.
        tls: to serve https; None: plain http.
    """

    def __init__(self, transport: Transport, *, tls: ssl.SSLContext | None = None) -> None:
        self._transport = transport
        self._tls = tls
        self._handlers: set[asyncio.Task[Any]] = set()
        self._site: web.TCPSite | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cut()
        await self._runner.cleanup()
        if self._handlers:
            await asyncio.wait(self._handlers)

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self._port}"

    def cut(self) -> None:
        """Resets every connection that is open now; requests that come later are served."""
        for handler in self._handlers:
            handler.cancel()
        for connection in self._runner.server.connections if self._runner.server else ():
            _reset(connection.transport)

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Within it nobody listens: open connections are reset and new ones refused."""
        assert self._site is not None
        await self._site.stop()
        self.cut()
        try:
            yield
        finally:
            await self._listen()

    async def _listen(self) -> None:
        self._site = web.TCPSite(self._runner, HOST, self._port, ssl_context=self._tls, reuse_address=True)
        await self._site.start()
        self._port = self._port or self._runner.addresses[0][1]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            return await self._exchange(request)
        except TransportError:
            await _flush(request)
            _reset(request.transport)
        except ConnectionError:
            pass  # whoever asked is gone
        finally:
            self._handlers.discard(task)
        return web.Response()  # to nobody

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        stream = await self._transport.stream(await _request(request))
        try:
            return await _answer(request, stream)
        finally:
            await stream.aclose()


async def _request(request: web.Request) -> Request:
    body = await request.read() if request.can_read_body else None
    made = Request(
        request.method,
        request.path,
        "",
        query=tuple(request.query.items()),
        body=body,
        content_type=request.headers.get("Content-Type", "application/json"),
        headers=_kept(request.headers, _NOT_FORWARDED),
        timeout_s=_FOR_EVER_S,
    )
    return replace(made, verb=verb_of(made))


async def _answer(request: web.Request, stream: ResponseStream) -> web.StreamResponse:
    response = web.StreamResponse(status=stream.status, headers=_kept(stream.headers, _NOT_ANSWERED))
    await response.prepare(request)
    async for chunk in stream.chunks():
        await response.write(chunk)
    await response.write_eof()
    return response


def _kept(headers: Mapping[str, str], left_out: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in left_out}


async def _flush(request: web.Request) -> None:
    """What was sent before the break is to arrive; who does not read in time misses it."""
    if request.transport is None or request.transport.is_closing():
        return
    # Not 0, at which TLS takes an empty buffer for a full one.
    request.transport.set_write_buffer_limits(high=1, low=0)
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(_FLUSH_S):
            await request.writer.drain()


def _reset(transport: asyncio.BaseTransport | None) -> None:
    if transport is None or not isinstance(transport, asyncio.Transport):
        return
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        # Closed without lingering, a socket sends RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
