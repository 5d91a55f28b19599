"""What carries bytes between the API server, pods and people: half-closed, slow and broken connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from kaito.devcluster.process_nodes.forwarding import Forwarder, NoRoute, Stream, Target
from kaito.devcluster.process_nodes.proxy import Proxy
from kaito.testing import eventually

MANY_BYTES = 64 << 20


@asynccontextmanager
async def listening(serve: Callable[[Stream], Awaitable[None]]) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    async with Forwarder(listener, serve) as forwarder:
        yield forwarder.port


@asynccontextmanager
async def connected(path: Path, port: int) -> AsyncIterator[Stream]:
    """A connection through the proxy."""
    stream = Stream(*await asyncio.open_unix_connection(str(path)))
    stream.writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (await stream.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    yield stream
    await stream.close()


@asynccontextmanager
async def through_the_proxy(serve: Callable[[Stream], Awaitable[None]], path: Path) -> AsyncIterator[Stream]:
    async with listening(serve) as port, Proxy(path, as_it_is), connected(path, port) as stream:
        yield stream


async def as_it_is(host: str, port: int) -> Target:
    return Target(host, port)


async def test_who_has_said_all_is_still_answered(tmp_path: Path) -> None:
    async def answer_at_the_end(stream: Stream) -> None:
        stream.writer.write(b"got " + await stream.reader.read())

    async with through_the_proxy(answer_at_the_end, tmp_path / "s") as stream:
        stream.writer.write(b"all")
        stream.writer.write_eof()
        assert await stream.reader.read() == b"got all"


async def test_a_reader_that_is_slow_slows_the_writer_down_and_gets_every_byte(tmp_path: Path) -> None:
    written, seen = 0, -1

    async def flood(stream: Stream) -> None:
        nonlocal written
        while written < MANY_BYTES:
            stream.writer.write(b"x" * 65536)
            written += 65536
            await stream.writer.drain()

    def stands_still() -> bool:
        nonlocal seen
        before, seen = seen, written
        return before == seen

    async with through_the_proxy(flood, tmp_path / "s") as stream:
        read = len(await stream.reader.readexactly(1))
        await eventually(stands_still)
        assert written < MANY_BYTES / 2
        while chunk := await stream.reader.read(1 << 20):
            read += len(chunk)
        assert read == MANY_BYTES


async def test_when_one_side_breaks_the_other_is_told(tmp_path: Path) -> None:
    async def break_off(stream: Stream) -> None:
        await stream.reader.readexactly(1)
        stream.writer.transport.abort()

    async with through_the_proxy(break_off, tmp_path / "s") as stream:
        stream.writer.write(b"x")
        with suppress(ConnectionError):
            assert await stream.reader.read() == b""


async def test_at_its_end_it_ends_what_is_under_way(tmp_path: Path) -> None:
    async def say_nothing(stream: Stream) -> None:
        await stream.reader.read()

    async with listening(say_nothing) as port:
        proxy = Proxy(tmp_path / "s", as_it_is)
        await proxy.__aenter__()
        async with connected(tmp_path / "s", port) as stream:
            await proxy.__aexit__(None, None, None)
            assert await stream.reader.read() == b""


async def test_a_killed_agents_socket_is_replaced_and_reasons_are_one_line(tmp_path: Path) -> None:
    async def nowhere(host: str, port: int) -> Target:
        raise NoRoute(502, "not\nhere")

    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))
    async with Proxy(tmp_path / "s", nowhere):
        stream = Stream(*await asyncio.open_unix_connection(str(tmp_path / "s")))
        stream.writer.write(b"CONNECT a:1 HTTP/1.1\r\n\r\n")
        assert await stream.reader.read() == b"HTTP/1.1 502 not here\r\n\r\n"
        await stream.close()
        stream = Stream(*await asyncio.open_unix_connection(str(tmp_path / "s")))
        stream.writer.write(b"CONNECT a:65536 HTTP/1.1\r\n\r\n")
        assert (await stream.reader.read()).startswith(b"HTTP/1.1 400 ")
        await stream.close()
