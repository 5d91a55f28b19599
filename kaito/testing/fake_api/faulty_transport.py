"""FaultyTransport: a transport on which things go wrong by rules, whatever server it ends in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from kaito.client.errors import TransportError
from kaito.client.transport import Request, Response, ResponseStream, Transport
from kaito.testing.fake_api.altered import altered
from kaito.testing.fake_api.faults import Action, Delay, Drop, Faults, Hang, Refuse
from kaito.testing.fake_api.responses import refusal
from kaito.testing.fake_api.routes import verb_of


class FaultyTransport:
    """See `kaito.client.transport.Transport`; requests that a rule hits go wrong as it says.

    Args:
        inner: how requests travel otherwise.
        faults: the rules; to be changed at any time.
    """

    def __init__(self, inner: Transport, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    async def send(self, request: Request) -> Response:
        """See `Transport.send`."""
        actions = self._faults.hit(request)
        if not actions:
            return await self._inner.send(request)
        async with patience(request):
            refused = await _before(request, actions)
            response = refused or await self._inner.send(request)
            _drop(request, actions, handled=True)
            whole = WholeStream(response)
            body = b"".join([chunk async for chunk in _chunks(request, whole, () if refused else actions)])
            return Response(response.status, response.headers, body)

    async def stream(self, request: Request) -> ResponseStream:
        """See `Transport.stream`."""
        actions = self._faults.hit(request)
        async with patience(request):
            refused = await _before(request, actions)
            stream = WholeStream(refused) if refused else await self._inner.stream(request)
            try:
                _drop(request, actions, handled=True)
            except BaseException:
                await stream.aclose()
                raise
            return _FaultyStream(request, stream, () if refused else actions)

    async def aclose(self) -> None:
        """Closes the inner transport."""
        await self._inner.aclose()


class WholeStream:
    """A whole answer as a stream of one piece."""

    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._body = response.body

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `ResponseStream.chunks`."""
        if self._body:
            yield self._body

    async def aclose(self) -> None:
        """Nothing is open."""


class _FaultyStream:
    def __init__(self, request: Request, inner: ResponseStream, actions: Sequence[Action]) -> None:
        self._request = request
        self._inner = inner
        self._actions = actions
        self.status = inner.status
        self.headers = inner.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        chunks = _chunks(self._request, self._inner, self._actions)
        while True:
            # Each piece has its own deadline: that of the silence before it.
            async with patience(self._request):
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


@asynccontextmanager
async def patience(request: Request) -> AsyncIterator[None]:
    """Ends what takes longer than the request's timeout, as a client would.

    Raises:
        TransportError: the time is up.
    """
    limit = asyncio.timeout(request.timeout_s)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TransportError(f"{request.describe()}: timed out", sent=True, timed_out=True) from error


def _chunks(request: Request, stream: ResponseStream, actions: Sequence[Action]) -> AsyncIterator[bytes]:
    def broken() -> TransportError:
        return TransportError(f"{request.describe()}: connection reset by peer", sent=True)

    # Events come in lines only where the server agreed to watch.
    watch = verb_of(request) == "watch" and stream.status == 200
    return altered(stream.chunks(), actions, watch=watch, broken=broken)


async def _before(request: Request, actions: Sequence[Action]) -> Response | None:
    for seconds in _delays(actions):
        await asyncio.sleep(seconds)
    _drop(request, actions, handled=False)
    for action in actions:
        if isinstance(action, Hang):
            await asyncio.get_running_loop().create_future()
        if isinstance(action, Refuse):
            return refusal(action.failure())
    return None


def _delays(actions: Sequence[Action]) -> Iterator[float]:
    return (action.seconds for action in actions if isinstance(action, Delay))


def _drop(request: Request, actions: Sequence[Action], *, handled: bool) -> None:
    for action in actions:
        if isinstance(action, Drop) and action.handled is handled:
            if action.act is not None:
                action.act()
            cause = "connection reset by peer" if action.sent else "connection refused"
            raise TransportError(f"{request.describe()}: {cause}", sent=action.sent)
