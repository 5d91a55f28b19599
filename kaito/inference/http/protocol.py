"""HTTP/1.1 on a connection: uvicorn's on httptools, with limits of what comes before a body."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024
"""Of a request line and its headers."""
HEAD_S = 30.0
"""From a connection's start, or a request's first byte, to the end of its headers."""


class LimitedHttp(HttpToolsProtocol):
    """Answers 400 to a head that is too long, and closes a connection on which none comes to its end.

    httptools is several times as fast as h11, and has no limits of its own.
    """

    head_s = HEAD_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes: int | None = 0
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes came, at most 256 KiB."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is not None and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The headers are longer than {HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._late is None:
            self._begin()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its headers are complete."""
        self._end()
        super().on_headers_complete()

    def _begin(self) -> None:
        self._head_bytes = 0
        self._late = self.loop.call_later(self.head_s, self.transport.close)

    def _end(self) -> None:
        self._head_bytes = None
        if self._late is not None:
            self._late.cancel()
            self._late = None
