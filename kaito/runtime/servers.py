"""Servers: /metrics, /healthz and /readyz over aiohttp; checks have names, and say why they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Check = Callable[[], str | None]
"""A health check: None when all is well, else why not, in a sentence."""


class Address(NamedTuple):
    """Where a server listens."""

    host: str | None
    port: int


def parse_address(text: str) -> Address | None:
    """Reads ``HOST:PORT`` or ``:PORT`` (all interfaces); ``0`` or nothing means no server. Port 0 takes a free one.

    Raises:
        ValueError: neither.
    """
    if text in ("", "0"):
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"address {text!r}: expected HOST:PORT, :PORT, or 0 for none")
    return Address(host.strip("[]") or None, int(port))


class Servers:
    """The manager's HTTP servers; one socket serves both when both have the same address.

    Args:
        registry: what /metrics prints.
        metrics: where /metrics is served; None: nowhere.
        health: where /healthz and /readyz are served; None: nowhere.
    """

    def __init__(self, registry: CollectorRegistry, metrics: Address | None, health: Address | None) -> None:
        self._registry = registry
        self._addresses = {"metrics": metrics, "health": health}
        self._runners: list[web.AppRunner] = []
        self.live_checks: dict[str, Check] = {}
        self.ready_checks: dict[str, Check] = {}
        self.bound: dict[str, Address] = {}

    async def start(self) -> None:
        """Begins to serve.

        Raises:
            OSError: an address is taken or not ours.
        """
        apps: dict[Address, web.Application] = {}
        for what, address in self._addresses.items():
            if address is None:
                continue
            shared = address if address.port else Address(f"{address.host}#{what}", 0)
            app = apps.setdefault(shared, web.Application())
            self._add_routes(app, what)
        for address, app in apps.items():
            await self._serve(app, address)

    async def stop(self) -> None:
        """Stops serving; requests in flight have a second to end."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    def _add_routes(self, app: web.Application, what: str) -> None:
        app.setdefault(_ROLES, []).append(what)
        if what == "metrics":
            app.router.add_get("/metrics", self._metrics)
        else:
            app.router.add_get("/healthz", self._live)
            app.router.add_get("/readyz", self._ready)

    async def _serve(self, app: web.Application, address: Address) -> None:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        host = None if address.host is None else address.host.partition("#")[0]
        site = web.TCPSite(runner, None if host in (None, "None") else host, address.port)
        await site.start()
        bound = runner.addresses[0]
        for role in app[_ROLES]:
            self.bound[role] = Address(str(bound[0]), int(bound[1]))

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _live(self, request: web.Request) -> web.Response:
        return _report(self.live_checks, request)

    async def _ready(self, request: web.Request) -> web.Response:
        return _report(self.ready_checks, request)


_ROLES: web.AppKey[list[str]] = web.AppKey("roles", list)


def _report(checks: Mapping[str, Check], request: web.Request) -> web.Response:
    """Answers as Kubernetes' own programs do: ``[+]name ok`` lines on failure or with ?verbose, else just ok."""
    failures = {name: reason for name, check in checks.items() if (reason := check()) is not None}
    lines = [f"[-]{name} failed: {failures[name]}" if name in failures else f"[+]{name} ok" for name in checks]
    if failures:
        return web.Response(status=503, text="\n".join([*lines, "check failed", ""]))
    if "verbose" in request.query:
        return web.Response(text="\n".join([*lines, "check passed", ""]))
    return web.Response(text="ok")


class LoopLag:
    """Measures how late the event loop runs what is due: what blocks it is a bug that hurts everything in it.

    Args:
        interval_s: how often it looks.
    """

    def __init__(self, interval_s: float = 0.5) -> None:
        self._interval_s = interval_s
        self.last_s = 0.0

    async def run(self) -> None:
        """Measures until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval_s
            await asyncio.sleep(self._interval_s)
            self.last_s = max(0.0, loop.time() - due)
