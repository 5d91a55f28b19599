"""Proxy: the HTTP CONNECT proxy on a unix socket through which the API server reaches pods, Services and kubelets."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from kaito.devcluster.process_nodes.forwarding import Forwarder, NoRoute, Stream, Target, dial, join

Route = Callable[[str, int], Awaitable[Target]]
"""From an address and a port in the cluster to where that is on this machine; raises `NoRoute`."""

_CONNECT: Final = re.compile(rb"CONNECT \[?([0-9A-Za-z.:-]+?)\]?:([0-9]{1,5}) HTTP/1\.[01]\r\n")
_LAST_PORT: Final = 65535
_HEAD_TIMEOUT_S: Final = 10.0


class Proxy:
    """Serves CONNECT for processes of this user. An async context.

    Args:
        path: of the socket, in an existing folder; systems allow some 100 bytes. One that a killed agent left is
            replaced.
        route: where an address of the cluster leads to.
    """

    def __init__(self, path: Path, route: Route) -> None:
        self._path = path
        self._route = route
        self._forwarder: Forwarder | None = None

    async def __aenter__(self) -> Self:
        self._forwarder = await Forwarder(_listening(self._path), self._serve).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._forwarder is not None
        self._path.unlink(missing_ok=True)
        await self._forwarder.close()

    async def _serve(self, near: Stream) -> None:
        try:
            far = await dial(await self._route(*await _asked(near.reader)))
        except NoRoute as error:
            # The API server hands the reason of the status line on to whoever asked it.
            near.writer.write(f"HTTP/1.1 {error.status} {' '.join(error.reason.split())}\r\n\r\n".encode())
            await near.writer.drain()
            return
        near.writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await join(near, far)


async def _asked(reader: asyncio.StreamReader) -> tuple[str, int]:
    """The address and the port that a client asks for."""
    try:
        async with asyncio.timeout(_HEAD_TIMEOUT_S):
            head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.LimitOverrunError, TimeoutError) as error:
        raise NoRoute(400, "no complete request came") from error
    found = _CONNECT.match(head)
    if found is None or int(found[2]) > _LAST_PORT:
        raise NoRoute(400, "only CONNECT HOST:PORT is understood here")
    return found[1].decode(), int(found[2])


def _listening(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        # Before it listens: nobody else ever gets in.
        os.chmod(path, 0o600)
    except OSError as error:
        listening.close()
        raise OSError(
            error.errno, f"{error.strerror or error}: {path}; choose a shorter place for the socket"
        ) from error
    return listening
