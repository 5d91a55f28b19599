"""Sockets: makes a transport's sockets, and knows when the last of them is gone."""

from __future__ import annotations

import asyncio
import socket
from weakref import WeakSet

from aiohttp import AddrInfoType

_GONE_TIMEOUT_S = 0.5
_GONE_POLL_S = 0.005
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


class Sockets:
    """A socket factory for aiohttp's connector: keepalives on, Nagle's algorithm off.

    It remembers what it made. aiohttp waits for connections that it holds when it is closed, but not for those that it
    had dropped by then: a watch that was cut off, a request that was cancelled. Their TLS closes in its own time, and
    a loop that ends before that leaves sockets open, with a warning for each.
    """

    def __init__(self) -> None:
        self._made: WeakSet[socket.socket] = WeakSet()

    def __call__(self, address: AddrInfoType) -> socket.socket:
        """Makes a socket for an entry of ``getaddrinfo``."""
        family, kind, protocol = address[0], address[1], address[2]
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, seconds in _KEEPALIVE:
            if hasattr(socket, option):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
        self._made.add(made)
        return made

    async def gone(self) -> None:
        """Waits until all are closed, half a second at most: a peer need not answer a TLS close."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _GONE_TIMEOUT_S
        while any(made.fileno() != -1 for made in self._made) and loop.time() < deadline:  # noqa: ASYNC110 - no event
            await asyncio.sleep(_GONE_POLL_S)
