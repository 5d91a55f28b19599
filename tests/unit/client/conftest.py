"""A scripted HTTP server on loopback: says the bytes it was told to say, and writes down what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest


class Asked(NamedTuple):
    """One request as it came over the wire."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    target: str
    connection: int

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


class WireServer:
    """Answers requests from `script` in order, then with `default`. An answer is (status, headers, body), or one of

    ``"reset"`` (the request is read, and the connection breaks), ``"hang"`` (no answer, until the server closes),
    bytes (sent as they are, then the connection is closed), or a list of bytes and ``"hang"`` (sent piece by piece).
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.script: list[Any] = []
        self.default: Any = (200, {}, {"metadata": {}})
        self.connections = 0
        self.on_request: Callable[[], None] = lambda: None
        self._closing = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens on a free port of loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        """Its base URL."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Closes everything."""
        assert self._server is not None
        self._closing.set()
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self._writers.add(writer)
        try:
            while await self._exchange(number, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        self.asked.append(Asked(method, url.path, query, headers, body, target, number))
        self.on_request()
        return await self._say(self.script.pop(0) if self.script else self.default, writer)

    async def _say(self, answer: Any, writer: asyncio.StreamWriter) -> bool:
        if answer == "reset":
            return False
        if answer == "hang":
            await self._closing.wait()
            return False
        if isinstance(answer, bytes | list):
            for piece in [answer] if isinstance(answer, bytes) else answer:
                if not await self._piece(piece, writer):
                    return False
            return False
        status, headers, body = answer
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}"]
        for name, values in headers.items():
            lines += [f"{name}: {value}" for value in ([values] if isinstance(values, str) else values)]
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await writer.drain()
        return True

    async def _piece(self, piece: Any, writer: asyncio.StreamWriter) -> bool:
        if piece == "hang":
            await self._closing.wait()
            return False
        writer.write(piece)
        await writer.drain()
        return True


@pytest.fixture
async def server() -> AsyncIterator[WireServer]:
    started = WireServer()
    await started.start()
    try:
        yield started
    finally:
        await started.stop()
