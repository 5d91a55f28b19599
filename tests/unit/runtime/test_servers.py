"""Servers: /metrics, /healthz and /readyz as probes and scrapers see them, and addresses that do not do."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from kaito.runtime.servers import Address, LoopLag, Servers, parse_address
from kaito.testing import virtual_clock

LOOPBACK = Address("127.0.0.1", 0)


@asynccontextmanager
async def started(metrics: Address | None = LOOPBACK, health: Address | None = LOOPBACK) -> AsyncIterator[Servers]:
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc()
    servers = Servers(registry, metrics, health)
    await servers.start()
    try:
        yield servers
    finally:
        await servers.stop()


async def ask(address: Address, path: str) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{address.port}{path}") as response,
    ):
        return response.status, await response.text(), response.headers["Content-Type"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", Address(None, 8080)),
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::1]:8080", Address("::1", 8080)),
        ("localhost:65535", Address("localhost", 65535)),
        ("0", None),
        ("", None),
    ],
)
def test_addresses_are_read_as_in_controller_runtime(text: str, address: Address | None) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["8080", "host", ":", ":http", "host:-1", ":65536"])
def test_what_is_no_address_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT, :PORT, or 0 for none"):
        parse_address(text)


async def test_metrics_are_served_as_prometheus_reads_them() -> None:
    async with started() as servers:
        status, text, content_type = await ask(servers.bound["metrics"], "/metrics")
        assert status == 200
        assert "things_total 1.0" in text
        assert content_type.startswith("text/plain; version=")


async def test_probes_say_ok_or_which_check_fails_and_why() -> None:
    async with started() as servers:
        health = servers.bound["health"]
        fault: list[str] = []
        servers.live_checks["ping"] = lambda: None
        servers.ready_checks["informers"] = lambda: fault[0] if fault else None
        servers.ready_checks["other"] = lambda: None
        assert (await ask(health, "/readyz"))[:2] == (200, "ok")
        assert (await ask(health, "/readyz?verbose"))[:2] == (200, "[+]informers ok\n[+]other ok\ncheck passed\n")
        fault.append("Widget: first list not in yet")
        failed = "[-]informers failed: Widget: first list not in yet\n[+]other ok\ncheck failed\n"
        assert (await ask(health, "/readyz"))[:2] == (503, failed)
        assert (await ask(health, "/healthz"))[:2] == (200, "ok")


async def test_a_check_that_raises_fails_by_its_name_and_hides_no_other() -> None:
    def broken() -> str | None:
        raise RuntimeError("oops")

    async with started() as servers:
        servers.ready_checks["broken"] = broken
        servers.ready_checks["other"] = lambda: None
        status, text, _ = await ask(servers.bound["health"], "/readyz")
        assert status == 503
        assert "[-]broken failed: the check itself failed: RuntimeError('oops')\n[+]other ok\n" in text


async def test_one_socket_serves_both_when_both_have_one_address() -> None:
    shared = Address("127.0.0.1", free_port())
    async with started(shared, shared) as servers:
        assert servers.bound == {"metrics": shared, "health": shared}
        assert [(await ask(shared, path))[0] for path in ("/metrics", "/healthz", "/readyz")] == [200, 200, 200]


async def test_port_0_takes_two_free_ports() -> None:
    async with started() as servers:
        assert servers.bound["metrics"].port != servers.bound["health"].port
        assert (await ask(servers.bound["metrics"], "/healthz"))[0] == 404


async def test_no_address_means_no_server() -> None:
    async with started(None, None) as servers:
        assert servers.bound == {}
    async with started(None) as servers:
        assert list(servers.bound) == ["health"]


async def test_an_address_that_is_taken_is_named_and_nothing_is_left_listening() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address("127.0.0.1", taken.getsockname()[1])
        servers = Servers(CollectorRegistry(), LOOPBACK, address)
        text = f"health server: cannot listen on {address}: Address already in use; choose another address"
        with pytest.raises(OSError, match=text) as raised:
            await servers.start()
        assert raised.value.errno == errno.EADDRINUSE
        assert servers.bound == {}
        assert servers._runners == []


async def test_stopping_twice_is_harmless_and_frees_the_port() -> None:
    async with started() as servers:
        address = servers.bound["health"]
    await servers.stop()
    async with started(None, address) as again:
        assert again.bound["health"] == address


def test_a_loop_that_is_blocked_shows_its_lag() -> None:
    async def main() -> float:
        lag = LoopLag(interval_s=0.5)
        task = asyncio.create_task(lag.run())
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, virtual_clock.VirtualClockLoop)
        loop._now += 3.0  # what a blocking call does to a loop
        await asyncio.sleep(0.1)
        task.cancel()
        return lag.last_s

    assert virtual_clock.run(main()) == pytest.approx(2.5)
