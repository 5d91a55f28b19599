"""HTTP/1.1 on a connection: uvicorn's on httptools, with limits of what comes before a body."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

HEAD_BYTES = 64 * 1024
"""Of a request line and its headers."""
HEAD_S = 30.0
"""From a connection's start, or a request's first byte, to the end of its headers."""
STALLED_S = 60.0
"""In which a client takes nothing of what waits for it."""


class LimitedHttp(HttpToolsProtocol):
    """Answers 400 to a head that is too long, and closes a connection on which none comes to its end.

    A client that offers HTTP/2 or a WebSocket with its request, as Java's does, is answered in HTTP/1.1, while
    httptools would drop the body. What comes with a chunked body and is none of it, extensions and trailers, is
    limited like a head. A connection whose client has stopped to read is cut off, or a stream would wait for it for as
    long as it likes.

    httptools is several times as fast as h11, and has no limits of its own.
    """

    head_s = HEAD_S
    stalled_s = STALLED_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes: int | None = 0
        self._late: asyncio.TimerHandle | None = None
        self._beside_body = 0
        self._stalled: asyncio.TimerHandle | None = None
        self._unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._end()
        self._flows()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes came, at most 256 KiB."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        self._beside_body += len(data)
        self._unset_keepalive_if_required()
        self._feed(data)
        if self.transport.is_closing():
            return
        if self._head_bytes is not None and self._head_bytes > HEAD_BYTES:
            self.send_400_response(f"The headers are longer than {HEAD_BYTES} bytes.")
        elif self._head_bytes is None and self._beside_body > HEAD_BYTES:
            self.send_400_response(f"What comes with the chunks of a body is longer than {HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """A request begins."""
        if not self.flow.write_paused:
            self._flows()
        if self._late is None:
            self._begin()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its headers are complete."""
        if not self.parser.should_upgrade():
            self._end()
            super().on_headers_complete()
            if self.parser.get_http_version() == "1.0":
                _leave_unframed(self.cycle)

    def on_message_complete(self) -> None:
        """It is complete."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Some of a body came."""
        self._beside_body = 0
        super().on_body(body)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.parser.get_method() == b"CONNECT":
                self.send_400_response("CONNECT is for proxies, and this is none.")
                return
            lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
            lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._feed(b"\r\n".join(lines) + b"\r\n\r\n" + data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def pause_writing(self) -> None:
        """More waits for the client than it takes."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """It has taken most of it."""
        self._flows()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """A response is complete, though perhaps not sent."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._watch()

    def _watch(self) -> None:
        if self._stalled is None:
            self._unsent = self.transport.get_write_buffer_size()
            self._stalled = self.loop.call_later(self.stalled_s, self._look)

    def _look(self) -> None:
        self._stalled = None
        unsent = self.transport.get_write_buffer_size()
        # Else a further response is being written, which says when it waits.
        if unsent and (self.flow.write_paused or self.cycle.response_complete):
            if unsent >= self._unsent:
                # To close it would be to wait until all of it is sent.
                self.transport.abort()
            else:
                self._watch()

    def _flows(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _begin(self) -> None:
        self._head_bytes = 0
        self._late = self.loop.call_later(self.head_s, self.transport.close)

    def _end(self) -> None:
        self._head_bytes = None
        self._beside_body = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None


def _leave_unframed(cycle: RequestResponseCycle) -> None:
    """HTTP/1.0 has no chunks: an answer without a length ends where its connection does."""
    send = cycle.send
    unframed = False

    async def send_unframed(message: ASGISendEvent) -> None:
        nonlocal unframed
        if message["type"] == "http.response.start":
            unframed = not any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if unframed:
                cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize
        elif message["type"] == "http.response.body" and unframed and not message.get("more_body", False):
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_unframed  # type: ignore[method-assign]
