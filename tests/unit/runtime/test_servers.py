"""Servers: /metrics, /healthz and /readyz as probes and scrapers see them, and addresses that do not do."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from kaito.runtime.servers import Address, CannotListen, Servers, listen, parse_address
from kaito.runtime.watchdog import Watchdog, WatchdogMetrics

LOOPBACK = Address("127.0.0.1", 0)


@asynccontextmanager
async def started(
    metrics: Address | None = LOOPBACK, health: Address | None = LOOPBACK, *, blocked_after_s: float = 0.15
) -> AsyncIterator[Servers]:
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc()
    servers = make(registry, metrics, health, blocked_after_s)
    servers.start()
    try:
        yield servers
    finally:
        await servers.stop()


def make(
    registry: CollectorRegistry, metrics: Address | None, health: Address | None, blocked_after_s: float = 0.15
) -> Servers:
    watchdog = Watchdog(WatchdogMetrics(CollectorRegistry()), blocked_after_s=blocked_after_s, interval_s=0.02)
    return Servers(registry, watchdog, metrics, health, debug=lambda: {"queues": "all of them"})


async def ask(address: Address, path: str, **headers: str) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{address.port}{path}", headers=headers) as response,
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
        servers.live.add("ping", lambda: None)
        servers.ready.add("informers", lambda: fault[0] if fault else None)
        servers.ready.add("other", lambda: None)
        assert (await ask(health, "/readyz"))[:2] == (200, "ok")
        assert (await ask(health, "/readyz?verbose"))[:2] == (
            200,
            "[+]loop ok\n[+]informers ok\n[+]other ok\ncheck passed\n",
        )
        fault.append("Widget: first list not in yet")
        failed = "[+]loop ok\n[-]informers failed: Widget: first list not in yet\n[+]other ok\ncheck failed\n"
        assert (await ask(health, "/readyz"))[:2] == (503, failed)
        assert (await ask(health, "/healthz"))[:2] == (200, "ok")


async def test_a_check_that_raises_fails_by_its_name_and_hides_no_other() -> None:
    def broken() -> str | None:
        raise RuntimeError("oops")

    async with started() as servers:
        servers.ready.add("broken", broken)
        servers.ready.add("other", lambda: None)
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
        servers = make(CollectorRegistry(), LOOPBACK, address)
        text = f"health server: cannot listen on {address}: Address already in use; choose another address"
        with pytest.raises(OSError, match=text) as raised:
            servers.start()
        assert raised.value.errno == errno.EADDRINUSE
        assert servers.bound == {}
        assert "watchdog" not in {thread.name for thread in threading.enumerate()}


async def test_stopping_twice_is_harmless_and_frees_the_port() -> None:
    async with started() as servers:
        address = servers.bound["health"]
    await servers.stop()
    async with started(None, address) as again:
        assert again.bound["health"] == address


async def test_checks_are_left_out_or_asked_alone_by_their_names() -> None:
    async with started() as servers:
        health = servers.bound["health"]
        servers.ready.add("informer/Pod", lambda: "watch broken")
        servers.ready.add("other", lambda: None)
        assert (await ask(health, "/readyz/other"))[:2] == (200, "ok")
        assert (await ask(health, "/readyz/informer/Pod"))[:2] == (
            503,
            "[-]informer/Pod failed: watch broken\ncheck failed\n",
        )
        assert (await ask(health, "/readyz?exclude=informer/Pod"))[:2] == (200, "ok")
        status, text, _ = await ask(health, "/readyz?exclude=informer/Pod&exclude=nothing&verbose")
        assert status == 200
        assert "warn: nothing to exclude is named nothing\n" in text
        assert (await ask(health, "/readyz/nothing"))[:2] == (
            404,
            "no check is named nothing; there are: loop, informer/Pod, other\n",
        )


async def test_programs_are_answered_in_json() -> None:
    async with started() as servers:
        servers.ready.add("other", lambda: "it is late")
        expected = {"ok": False, "checks": {"loop": {"ok": True}, "other": {"ok": False, "reason": "it is late"}}}
        for path, headers in (("/readyz?format=json", {}), ("/readyz", {"Accept": "application/json"})):
            status, text, content_type = await ask(servers.bound["health"], path, **headers)
            assert (status, json.loads(text)) == (503, expected)
            assert content_type.startswith("application/json")


async def test_what_is_debugged_is_described_beside_the_probes() -> None:
    async with started() as servers:
        status, text, _ = await ask(servers.bound["health"], "/debug/queues")
        assert (status, json.loads(text)) == (200, {"queues": "all of them"})


class Asker(threading.Thread):
    """Asks from a thread of its own, again and again, until the answer is no."""

    def __init__(self, address: Address, path: str, times: int = 1000) -> None:
        super().__init__()
        self.times = times
        self.url = f"http://127.0.0.1:{address.port}{path}"
        self.answers: list[tuple[int, str]] = []
        self.slowest_s = 0.0

    def run(self) -> None:
        for _ in range(self.times):
            began = time.monotonic()
            try:
                with urllib.request.urlopen(self.url, timeout=5.0) as response:
                    self.answers.append((response.status, response.read().decode()))
            except urllib.error.HTTPError as error:
                self.answers.append((error.code, error.read().decode()))
                return
            finally:
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)


def block_until(asker: threading.Thread) -> None:
    while asker.is_alive():
        asker.join(0.01)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_blocked_loop_is_answered_for_with_the_place_that_blocks_it(path: str) -> None:
    async with started() as servers:
        servers.live.add("ping", lambda: None)
        servers.ready.add("ping", lambda: None)
        health = servers.bound["health"]
        assert (await ask(health, path))[:2] == (200, "ok")
        asker = Asker(health, path)
        asker.start()
        block_until(asker)
        status, text = asker.answers[-1]
        assert status == 503
        assert re.match(r"\[-\]loop failed: event loop blocked for [01] s in .*:\d+ in block_until, at ", text)
        assert text.endswith("[+]ping ok\ncheck failed\n")
        assert asker.slowest_s < 1.0
        await asyncio.sleep(0.1)
        assert (await ask(health, path))[:2] == (200, "ok")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_loop_that_was_just_busy_since_the_start_is_alive_but_not_ready(path: str) -> None:
    async with started(blocked_after_s=60.0) as servers:
        servers.live.add("ping", lambda: None)
        servers.ready.add("ping", lambda: None)
        asker = Asker(servers.bound["health"], path, times=1)
        asker.start()
        block_until(asker)
        unready = (
            "[+]loop ok\n[-]checks failed: not asked yet: the event loop has not answered for 0.5 s\ncheck failed\n"
        )
        assert asker.answers == [(200, "ok") if path == "/healthz" else (503, unready)]


async def test_a_name_is_listened_at_on_all_of_its_addresses_or_on_none() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CannotListen, match="Address already in use"):
            listen(Address("127.0.0.1", taken.getsockname()[1]), ("health",))
    with pytest.raises(CannotListen, match=r"health server: cannot listen on no\.such\.host\.invalid:80: "):
        listen(Address("no.such.host.invalid", 80), ("health",))
    opened = listen(Address(None, 0), ("health",))
    port = opened[0].getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)):
        pass
    for each in opened:
        each.close()
