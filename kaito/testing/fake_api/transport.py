"""FakeTransport: the client's transport, ending in a FakeApi instead of a socket; latency and faults happen here."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from kaito.client.errors import TransportError
from kaito.client.transport import Request, Response, ResponseStream
from kaito.testing.fake_api.faulty_transport import FaultyTransport, WholeStream, patience
from kaito.testing.fake_api.responses import JSON_TYPE
from kaito.testing.fake_api.routes import verb_of
from kaito.testing.fake_api.watches import Watch

if TYPE_CHECKING:
    from kaito.testing.fake_api.server import FakeApi


class FakeTransport:
    """See `kaito.client.transport.Transport`. A request takes effect halfway: cancelled before, it never happened.

    Args:
        api: where requests end.
        user_agent: names the field manager of writes that name none.
    """

    def __init__(self, api: FakeApi, *, user_agent: str) -> None:
        self._api = api
        self._user_agent = user_agent
        self._streams: list[_WatchStream] = []
        self._server = FaultyTransport(_Server(api, self._streams), api.faults)

    async def send(self, request: Request) -> Response:
        """See `Transport.send`."""
        self._api.log.arrived()
        status = 0
        try:
            async with patience(request):
                await self._travel()
                response = await self._server.send(self._named(request))
                await self._travel()
            status = response.status
        finally:
            self._api.log.answered(request, status)
        return response

    async def stream(self, request: Request) -> ResponseStream:
        """See `Transport.stream`."""
        self._api.log.arrived()
        stream: ResponseStream | None = None
        opened = False
        try:
            async with patience(request):
                await self._travel()
                stream = await self._server.stream(self._named(request))
                await self._travel()
                opened = True
        finally:
            self._api.log.answered(request, stream.status if stream and opened else 0)
            if stream is not None and not opened:
                await stream.aclose()
        return stream

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        for stream in list(self._streams):
            await stream.aclose()

    async def _travel(self) -> None:
        await asyncio.sleep(self._api.latency_s())

    def _named(self, request: Request) -> Request:
        return dataclasses.replace(request, headers={"User-Agent": self._user_agent, **request.headers})


class _Server:
    """The server's own side: answers at once, but for what a watch says, which travels."""

    def __init__(self, api: FakeApi, streams: list[_WatchStream]) -> None:
        self._api = api
        self._streams = streams

    async def send(self, request: Request) -> Response:
        if verb_of(request) != "watch":
            return self._api.handle(request)
        stream = await self.stream(request)
        try:
            return Response(stream.status, stream.headers, b"".join([chunk async for chunk in stream.chunks()]))
        finally:
            await stream.aclose()

    async def stream(self, request: Request) -> ResponseStream:
        if verb_of(request) != "watch":
            return WholeStream(self._api.handle(request))
        watch = self._api.open_watch(request)
        if isinstance(watch, Response):
            return WholeStream(watch)
        stream = _WatchStream(self._api, request, watch, self._streams)
        self._streams.append(stream)
        return stream

    async def aclose(self) -> None:
        """The streams are closed by who made them."""


class _WatchStream:
    def __init__(self, api: FakeApi, request: Request, watch: Watch, open_streams: list[_WatchStream]) -> None:
        self._api = api
        self._request = request
        self._watch = watch
        self._open_streams = open_streams
        self.status = 200
        self.headers: Mapping[str, str] = JSON_TYPE

    async def chunks(self) -> AsyncIterator[bytes]:
        while lines := await self._watch.take():
            await asyncio.sleep(self._api.latency_s())
            yield b"".join(lines)
        if self._watch.broken:
            raise TransportError(f"{self._request.describe()}: connection reset by peer", sent=True)

    async def aclose(self) -> None:
        self._watch.close()
        if self in self._open_streams:
            self._open_streams.remove(self)
