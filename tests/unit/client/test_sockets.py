"""What is left of a transport's connections when it is closed."""

from __future__ import annotations

import asyncio
import socket

import pytest

from kaito.client.sockets import Sockets
from kaito.testing import virtual_clock

ADDRESS = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1))


def test_sockets_find_out_by_themselves_that_the_other_side_is_gone() -> None:
    made = Sockets()(ADDRESS)
    try:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
    finally:
        made.close()


def test_closing_waits_for_sockets_that_close_in_their_own_time() -> None:
    async def test() -> float:
        sockets, loop = Sockets(), asyncio.get_running_loop()
        made = [sockets(ADDRESS), sockets(ADDRESS)]
        for number, each in enumerate(made, 1):
            loop.call_later(0.2 * number, each.close)
        began = loop.time()
        await sockets.gone()
        return loop.time() - began

    assert virtual_clock.run(test()) == pytest.approx(0.4, abs=0.02)


def test_closing_waits_half_a_second_at_most() -> None:
    async def test() -> float:
        sockets, loop = Sockets(), asyncio.get_running_loop()
        began = loop.time()
        with sockets(ADDRESS):
            await sockets.gone()
            return loop.time() - began

    assert virtual_clock.run(test()) == pytest.approx(0.5, abs=0.02)


def test_a_forgotten_socket_is_not_kept() -> None:
    async def test() -> None:
        sockets = Sockets()
        sockets(ADDRESS).close()
        await sockets.gone()
        assert len(sockets._made) == 0

    virtual_clock.run(test())
