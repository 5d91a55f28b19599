"""Servers: /metrics, /healthz and /readyz over aiohttp; checks have names, and say why they fail."""

from __future__ import annotations

import asyncio
import os
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

    def __str__(self) -> str:
        return f"{self.host or ''}:{self.port}"


class CannotListen(OSError):
    """An address for a server is taken, or not ours.

    Attributes:
        roles: what was to be served there: ``metrics``, ``health`` or both.
        address: where.
    """

    def __init__(self, error: OSError, roles: tuple[str, ...], address: Address) -> None:
        why = os.strerror(error.errno or 0)
        what = f"{' and '.join(roles)} server: cannot listen on {address}: {why}; choose another address"
        super().__init__(error.errno, what)
        self.roles = roles
        self.address = address


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
        self._metrics_address = metrics
        self._health_address = health
        self._runners: list[web.AppRunner] = []
        self.live_checks: dict[str, Check] = {}
        self.ready_checks: dict[str, Check] = {}
        self.bound: dict[str, Address] = {}

    async def start(self) -> None:
        """Begins to serve; all or nothing.

        Raises:
            CannotListen: an address is taken or not ours.
        """
        metrics, health = self._metrics_address, self._health_address
        try:
            if metrics is not None and metrics == health and metrics.port:
                await self._serve(metrics, "metrics", "health")
                return
            if metrics is not None:
                await self._serve(metrics, "metrics")
            if health is not None:
                await self._serve(health, "health")
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stops serving; requests in flight have a second to end."""
        while self._runners:
            await self._runners.pop().cleanup()
        self.bound.clear()

    async def _serve(self, address: Address, *roles: str) -> None:
        app = web.Application()
        if "metrics" in roles:
            app.router.add_get("/metrics", self._metrics)
        if "health" in roles:
            app.router.add_get("/healthz", self._live)
            app.router.add_get("/readyz", self._ready)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        self._runners.append(runner)
        await runner.setup()
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError as error:
            raise CannotListen(error, roles, address) from error
        host, port = runner.addresses[0][:2]
        self.bound.update(dict.fromkeys(roles, Address(str(host), int(port))))

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _live(self, request: web.Request) -> web.Response:
        return _report(self.live_checks, request)

    async def _ready(self, request: web.Request) -> web.Response:
        return _report(self.ready_checks, request)


def _report(checks: Mapping[str, Check], request: web.Request) -> web.Response:
    """Answers as Kubernetes' own programs do: ``[+]name ok`` lines on failure or with ?verbose, else just ok."""
    failures = {name: reason for name, check in checks.items() if (reason := _ask(check)) is not None}
    lines = [f"[-]{name} failed: {failures[name]}" if name in failures else f"[+]{name} ok" for name in checks]
    if failures:
        return web.Response(status=503, text="\n".join([*lines, "check failed", ""]))
    if "verbose" in request.query:
        return web.Response(text="\n".join([*lines, "check passed", ""]))
    return web.Response(text="ok")


def _ask(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:
        return f"the check itself failed: {error!r}"


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
