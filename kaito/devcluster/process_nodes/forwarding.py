"""Forwarder: a listener whose connections are joined to others, byte by byte."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, NamedTuple, Self

log = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 64 * 1024
_DIAL_S: Final = 10.0


class Target(NamedTuple):
    """Where a connection leads on this machine."""

    host: str
    port: int


class NoRoute(Exception):
    """A connection leads nowhere.

    Attributes:
        status: as HTTP has it: 403 for what is never reached, 502 for what is not reached now.
        reason: for people.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Stream(NamedTuple):
    """The two halves of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def close(self) -> None:
        """Ends it once what was written is out; at once when cancelled."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass  # the other side was faster
        except asyncio.CancelledError:
            self.writer.transport.abort()
            raise


class Forwarder:
    """Accepts connections and serves each in a task of its own. An async context; at its end all are ended.

    Args:
        listening: a socket that is bound; the forwarder's to close.
        serve: what is done with a connection, which is closed afterwards. A `NoRoute` of it ends the connection.
    """

    def __init__(self, listening: socket.socket, serve: Callable[[Stream], Awaitable[None]]) -> None:
        self._listening = listening
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.start_server(self._accept, sock=self._listening)
        except BaseException:
            self._listening.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """Where it listens, if that is a TCP port."""
        number: int = self._listening.getsockname()[1]
        return number

    async def close(self) -> None:
        """Ends the listener and all connections."""
        assert self._server is not None, "Forwarder is an async context"
        self._server.close()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(list(self._tasks))
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._run(Stream(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, near: Stream) -> None:
        try:
            await self._serve(near)
        except NoRoute as error:
            log.info("connection refused", extra={"why": error.reason})
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away in the middle
        except Exception:
            log.exception("connection failed")
        finally:
            await near.close()


async def dial(target: Target) -> Stream:
    """Connects to a target.

    Raises:
        NoRoute: nothing listens there.
    """
    try:
        async with asyncio.timeout(_DIAL_S):
            return Stream(*await asyncio.open_connection(target.host, target.port))
    except OSError as error:  # TimeoutError is one
        why = error.strerror or "no answer"
        raise NoRoute(502, f"nothing answers at {target.host}:{target.port} ({why})") from error


async def join(near: Stream, far: Stream) -> None:
    """Carries bytes both ways until both sides have ended theirs, or one breaks; closes the far one."""
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(near.reader, far.writer))
            both.create_task(_pump(far.reader, near.writer))
    except* OSError:
        # Half of a broken connection is of no use: what the other side has yet to say goes with it.
        near.writer.transport.abort()
        far.writer.transport.abort()
    finally:
        await far.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    # Reader and writer hold a bounded number of bytes each: who reads slowly slows the other side down.
    while data := await source.read(_CHUNK_BYTES):
        sink.write(data)
        await sink.drain()
    sink.write_eof()
