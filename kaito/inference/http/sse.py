"""Answers that outlive a call: server-sent events, and work that ends when its client goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from fastapi import Response
from starlette.types import Receive, Scope, Send

from kaito.inference.errors import RequestError
from kaito.inference.http.errors import ClientGone, defect, error_object

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"
"""What OpenAI's streams end with."""


def event(content: object) -> bytes:
    """One event with a JSON body."""
    return b"data: %b\n\n" % msgspec.json.encode(content)


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Does some work, cancelled when the client closes its connection.

    Args:
        receive: of a request whose body has been read.
        work: what to do.

    Raises:
        ClientGone: The client has gone, and the work has ended.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.wait((working, watching))
        for task in (working, watching):
            if not task.cancelled():
                task.exception()  # or asyncio complains that nobody has looked


class EventStream(Response):
    """A stream of events over plain ASGI: each is one message, and a client that goes ends what makes them.

    A `RequestError` in the middle becomes an event with OpenAI's error object, which is the last one.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], close: Callable[[], Awaitable[None]]) -> None:
        """Sends nothing yet.

        Args:
            events: whole ones, as `event` writes them.
            close: called at the end however it comes, even if `events` was never asked for one.
        """
        # A proxy that gathers an answer before it passes it on would make one block of the stream.
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._close = events, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        try:
            with contextlib.suppress(ClientGone):
                await until_gone(receive, self._send(send))
        finally:
            await self._close()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            # Closed here and now: one that is left to the garbage collector would end at some later time.
            async with contextlib.aclosing(self._events) as events:
                async for each in events:
                    await send({"type": "http.response.body", "body": each, "more_body": True})
        except RequestError as error:
            await _send_error(send, error)
        except Exception:
            await _send_error(send, defect())
            raise
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_error(send: Send, error: RequestError) -> None:
    await send({"type": "http.response.body", "body": event(error_object(error)), "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
