"""FakeTransport: the client's transport, ending in a FakeApi instead of a socket; latency and faults happen here."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

from kaito.client.errors import TransportError
from kaito.client.transport import Request, Response, ResponseStream
from kaito.testing.fake_api.failures import expired
from kaito.testing.fake_api.faults import Action, CutWatch, Delay, Drop, Hang, Refuse
from kaito.testing.fake_api.responses import JSON_TYPE, refusal
from kaito.testing.fake_api.routes import place_of, verb_of
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
        self._streams: list[_FakeStream] = []

    async def send(self, request: Request) -> Response:
        """See `Transport.send`."""
        actions = self._arrive(request)
        status = 0
        try:
            async with asyncio.timeout(request.timeout_s):
                response = await self._exchange(self._named(request), actions)
            status = response.status
        except TimeoutError as error:
            raise TransportError(f"{request.describe()}: timed out", sent=True, timed_out=True) from error
        finally:
            self._api.log.answered(request, status)
        return response

    async def stream(self, request: Request) -> ResponseStream:
        """See `Transport.stream`."""
        actions = self._arrive(request)
        stream = None
        try:
            async with asyncio.timeout(request.timeout_s):
                stream = await self._open(self._named(request), actions)
        except TimeoutError as error:
            raise TransportError(f"{request.describe()}: timed out", sent=True, timed_out=True) from error
        finally:
            self._api.log.answered(request, stream.status if stream else 0)
        self._streams = [other for other in self._streams if not other.closed] + [stream]
        return stream

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        for stream in self._streams:
            await stream.aclose()
        self._streams.clear()

    def _arrive(self, request: Request) -> list[Action]:
        self._api.log.arrived()
        return self._api.faults.hit(verb_of(request), place_of(request.path))

    def _named(self, request: Request) -> Request:
        return dataclasses.replace(request, headers={"User-Agent": self._user_agent, **request.headers})

    async def _exchange(self, request: Request, actions: list[Action]) -> Response:
        refused = await self._travel(request, actions)
        response = refused or await self._read_all(request)
        _drop(request, actions, handled=True)
        await asyncio.sleep(self._api.latency_s())
        return response

    async def _read_all(self, request: Request) -> Response:
        if verb_of(request) != "watch":
            return self._api.handle(request)
        watch = self._api.open_watch(request)
        if isinstance(watch, Response):
            return watch
        lines: list[bytes] = []
        try:
            while batch := await watch.take():
                lines += batch
        finally:
            watch.close()
        return Response(200, JSON_TYPE, b"".join(lines))

    async def _open(self, request: Request, actions: list[Action]) -> _FakeStream:
        refused = await self._travel(request, actions)
        answer = self._api.open_watch if verb_of(request) == "watch" else self._api.handle
        opened = refused or answer(request)
        cut = next((action for action in actions if isinstance(action, CutWatch)), None)
        try:
            _drop(request, actions, handled=True)
            await asyncio.sleep(self._api.latency_s())
        except BaseException:
            if isinstance(opened, Watch):
                opened.close()
            raise
        return _FakeStream(self._api, request, opened, cut)

    async def _travel(self, request: Request, actions: list[Action]) -> Response | None:
        await asyncio.sleep(self._api.latency_s() + sum(one.seconds for one in actions if isinstance(one, Delay)))
        _drop(request, actions, handled=False)
        for action in actions:
            if isinstance(action, Hang):
                await _never()
            if isinstance(action, Refuse):
                return refusal(action.failure())
        return None


class _FakeStream:
    def __init__(self, api: FakeApi, request: Request, opened: Watch | Response, cut: CutWatch | None) -> None:
        self._api = api
        self._request = request
        self._opened = opened
        self._cut = cut
        self.closed = False
        self.status = opened.status if isinstance(opened, Response) else 200
        self.headers: Mapping[str, str] = opened.headers if isinstance(opened, Response) else JSON_TYPE

    async def chunks(self) -> AsyncIterator[bytes]:
        if isinstance(self._opened, Response):
            yield self._opened.body
            return
        async with aclosing(self._batches(self._opened)) as batches:
            async for lines in batches:
                yield b"".join(lines)

    async def aclose(self) -> None:
        self.closed = True
        if isinstance(self._opened, Watch):
            self._opened.close()

    async def _batches(self, watch: Watch) -> AsyncGenerator[list[bytes], None]:
        through = 0
        while lines := await self._take(watch, through):
            await asyncio.sleep(self._api.latency_s())
            if self._cut and through + len(lines) >= self._cut.after:
                if self._cut.after > through:
                    yield lines[: self._cut.after - through]
                through = self._cut.after
                async for last in self._end(watch, self._cut):
                    yield last
                return
            through += len(lines)
            yield lines

    async def _take(self, watch: Watch, through: int) -> list[bytes]:
        if self._cut and through >= self._cut.after:
            return [b""]
        try:
            async with asyncio.timeout(self._request.timeout_s):
                return await watch.take()
        except TimeoutError as error:
            raise self._silent() from error

    async def _end(self, watch: Watch, cut: CutWatch) -> AsyncIterator[list[bytes]]:
        watch.close()
        match cut.how:
            case "reset":
                raise TransportError(f"{self._request.describe()}: connection reset by peer", sent=True)
            case "silence":
                await asyncio.sleep(self._request.timeout_s)
                raise self._silent()
            case "expire":
                watch.fail(expired("too old resource version"))
                yield (await watch.take())[-1:]
            case "close":
                return

    def _silent(self) -> TransportError:
        return TransportError(f"{self._request.describe()}: timed out", sent=True, timed_out=True)


def _drop(request: Request, actions: list[Action], *, handled: bool) -> None:
    for action in actions:
        if isinstance(action, Drop) and action.handled is handled:
            cause = "connection reset by peer" if action.sent else "connection refused"
            raise TransportError(f"{request.describe()}: {cause}", sent=action.sent)


async def _never() -> None:
    await asyncio.get_running_loop().create_future()
