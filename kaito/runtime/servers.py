"""Servers: /metrics, /healthz and /readyz over aiohttp, on a thread beside the event loop that a watchdog shares."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry

from kaito.runtime.health import Checks
from kaito.runtime.probes import Guard, HealthProbes, debug_handler, metrics_handler
from kaito.runtime.side_thread import MainLoop, SideThread
from kaito.runtime.watchdog import Watchdog

SHUTDOWN_S = 1.0
BACKLOG = 128

_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class Address(NamedTuple):
    """Where a server listens."""

    host: str | None
    port: int

    def __str__(self) -> str:
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class CannotListen(OSError):
    """An address for a server is taken, or not ours.

    Attributes:
        roles: what was to be served there: ``metrics``, ``health`` or both.
        address: where.
        why: the system's reason.
        what: all of it in a sentence, without the system's number.
    """

    def __init__(self, error: OSError, roles: tuple[str, ...], address: Address) -> None:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
        what = f"{' and '.join(roles)} server: cannot listen on {address}: {why}; choose another address"
        super().__init__(error.errno, what)
        self.what = what
        self.roles = roles
        self.address = address
        self.why = why

    def __str__(self) -> str:
        return str(self.strerror)


def cannot_listen(error: BaseException) -> CannotListen | None:
    """The first such error in what `Manager.run` raised, if that is all that is in it."""
    if isinstance(error, BaseExceptionGroup):
        found = [cannot_listen(each) for each in error.exceptions]
        return found[0] if all(found) else None
    return error if isinstance(error, CannotListen) else None


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


class Security(Protocol):
    """How a server for metrics is secured. `kaito.runtime.secure_metrics.SecureMetrics` is one."""

    @property
    def guard(self) -> Guard:
        """Says who may scrape; called in the main loop."""
        ...

    @property
    def context(self) -> ssl.SSLContext:
        """What TLS is served with."""
        ...

    async def keep_fresh(self, looked: Callable[[], None]) -> None:
        """Keeps the context's certificate new, until cancelled; runs in the thread of the servers.

        Args:
            looked: called when it has been looked for; the server starts then, whether there is one or not.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Site:
    app: web.Application
    sockets: list[socket.socket]
    tls: ssl.SSLContext | None


class Servers:
    """The manager's HTTP servers; one socket serves both when both have the same address.

    They live on a thread of their own, with the watchdog: probes are answered while the event loop is blocked.

    Args:
        registry: what /metrics prints.
        watchdog: looks after the loop.
        metrics: where /metrics is served; None: nowhere.
        health: where /healthz and /readyz are served; None: nowhere.
        security: of /metrics; None: plain HTTP for everybody.
        debug: what /debug/queues, beside the probes, describes; None: there is none.

    Attributes:
        live: checks of /healthz.
        ready: checks of /readyz.
        bound: where ``metrics`` and ``health`` really listen.

    Raises:
        ValueError: one address for both, but only one of them secured.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        watchdog: Watchdog,
        metrics: Address | None,
        health: Address | None,
        *,
        security: Security | None = None,
        debug: Callable[[], Mapping[str, object]] | None = None,
    ) -> None:
        if security is not None and metrics is not None and metrics == health and metrics.port:
            raise ValueError(f"secure metrics and health probes cannot share {metrics}: probes have no credentials")
        self._registry = registry
        self._watchdog = watchdog
        self._metrics_address = metrics
        self._health_address = health
        self._security = security
        self._debug = debug
        self._thread = SideThread("watchdog")
        self._runners: list[web.AppRunner] = []
        self._fresh: asyncio.Task[None] | None = None
        self.live = Checks()
        self.ready = Checks()
        self.bound: dict[str, Address] = {}

    def start(self) -> None:
        """Begins to serve, all or nothing; called in the running loop, which it holds up for some milliseconds.

        Raises:
            CannotListen: an address is taken or not ours.
        """
        sites: list[_Site] = []
        try:
            main_loop = MainLoop()
            for address, roles in self._wanted():
                tls = self._security.context if self._security is not None and "metrics" in roles else None
                app = self._app(roles, main_loop)
                sites.append(_Site(app, sockets := listen(address, roles), tls))
                bound = Address(*sockets[0].getsockname()[:2])
                self.bound.update(dict.fromkeys(roles, bound))
            self._watchdog.begin()
            self._thread.start(lambda: self._serve(sites), self._stay)
        except BaseException:
            self._watchdog.end()
            self.bound.clear()
            for site in sites:
                for each in site.sockets:
                    each.close()
            raise

    async def stop(self) -> None:
        """Stops serving and watching; requests in flight have a second to end. Does nothing if it did not start."""
        self._watchdog.end()
        try:
            await self._thread.stop()
        finally:
            self.bound.clear()

    def _wanted(self) -> list[tuple[Address, tuple[str, ...]]]:
        metrics, health = self._metrics_address, self._health_address
        if metrics is not None and metrics == health and metrics.port:
            return [(metrics, ("metrics", "health"))]
        each = ((metrics, ("metrics",)), (health, ("health",)))
        return [(address, roles) for address, roles in each if address is not None]

    def _app(self, roles: tuple[str, ...], main_loop: MainLoop) -> web.Application:
        app = web.Application()
        if "metrics" in roles:
            guard = self._security.guard if self._security is not None else None
            app.router.add_get("/metrics", metrics_handler(self._registry, main_loop, guard))
        if "health" in roles:
            for path, checks in (("/healthz", self.live), ("/readyz", self.ready)):
                well = checks is self.live
                HealthProbes(checks, main_loop, self._watchdog, presumed_well=well).add_routes(app, path)
            if self._debug is not None:
                app.router.add_get("/debug/queues", debug_handler(self._debug, main_loop, self._watchdog))
        return app

    # In the thread.

    async def _serve(self, sites: list[_Site]) -> None:
        if any(site.tls is not None for site in sites) and self._security is not None:
            looked = asyncio.Event()
            self._fresh = asyncio.create_task(self._security.keep_fresh(looked.set))
            await looked.wait()
        for site in sites:
            runner = web.AppRunner(site.app, access_log=None, shutdown_timeout=SHUTDOWN_S)
            self._runners.append(runner)
            await runner.setup()
            for each in site.sockets:
                await web.SockSite(runner, each, ssl_context=site.tls).start()

    async def _stay(self, stopping: asyncio.Event) -> None:
        try:
            await self._watchdog.run(stopping)
        finally:
            if self._fresh is not None:
                self._fresh.cancel()
                await asyncio.wait([self._fresh])
            while self._runners:
                await self._runners.pop().cleanup()


def listen(address: Address, roles: tuple[str, ...]) -> list[socket.socket]:
    """Opens listening sockets at an address, on all interfaces of both IP versions if it has no host.

    Raises:
        CannotListen: it is taken, or not ours.
    """
    opened: list[socket.socket] = []
    try:
        for family, at in _places(address):
            both = family is socket.AF_INET6 and not address.host
            try:
                opened.append(socket.create_server(at, family=family, dualstack_ipv6=both, backlog=BACKLOG))
            except OSError as error:
                # Of a name's addresses those of a version that this machine does not speak may be missing.
                if error.errno not in _NOT_HERE or not opened:
                    raise
    except OSError as error:
        for each in opened:
            each.close()
        raise CannotListen(error, roles, address) from error
    return opened


def _places(address: Address) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    if address.host is None:
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        return [(family, ("", address.port))]
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places = [(family, (str(at[0]), int(at[1]))) for family, _, _, _, at in sorted(found)]
    # Port 0 is another one for each socket.
    return list(dict.fromkeys(places if address.port else places[:1]))
