"""How long a body may be, and how long it may take to come."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaito.inference.errors import BodyTooLarge, RequestError, RequestTimeout
from kaito.inference.http.errors import error_response
from kaito.inference.options import Limits

_READ_ON_S = 1.0
_READ_ON_TIMES = 8


class BodyLimits:
    """Answers 413 before a body that is too long has been read, and 408 to one that does not come to its end.

    A length that is announced is believed when it is too long, and counted all the same when it is not.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on requests, with a body that ends early where it is cut off."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.max_body_bytes
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(announced) > limit:
            await _refuse(_too_large(limit), scope, receive, send, limit)
            return
        body = _Body(receive, send, limit, self._limits.request_timeout_s)
        try:
            await self._app(scope, body.receive, body.send)
        except Exception:
            if body.error is None:
                raise
        if body.error is not None and not body.answered:
            await _refuse(body.error, scope, receive, send, limit)


class _Body:
    """A body that is counted. Once it is cut off, what the application answers to a broken body is not sent."""

    def __init__(self, receive: Receive, send: Send, limit: int, timeout_s: float) -> None:
        self._receive, self._send = receive, send
        self._limit, self._timeout_s = limit, timeout_s
        self._ends_at = asyncio.get_running_loop().time() + timeout_s
        self._length = 0
        self._complete = False
        self.error: RequestError | None = None
        self.answered = False

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._ends_at):
                message = await self._receive()
        except TimeoutError:
            return self._cut(RequestTimeout(f"the body did not come to its end within {self._timeout_s:g} s"))
        self._length += len(message.get("body", b""))
        if self._length > self._limit:
            return self._cut(_too_large(self._limit))
        self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if self.error is None or self.answered:
            self.answered = True
            await self._send(message)

    def _cut(self, error: RequestError) -> Message:
        self.error, self._complete = error, True
        return {"type": "http.disconnect"}


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is longer than {limit} bytes, which is what a request may have")


async def _refuse(error: RequestError, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
    """Says why, then reads on for a while: a connection closed on a client that still sends loses the answer, too."""
    response = error_response(error, scope["path"])
    # More than that is not read, so nothing else can come over this connection.
    response.headers["Connection"] = "close"
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_READ_ON_S):
            await _discard(receive, _READ_ON_TIMES * limit)
    await send({"type": "http.response.body", "body": b""})


async def _discard(receive: Receive, most: int) -> None:
    more = True
    while more and most > 0:
        message = await receive()
        most -= len(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
