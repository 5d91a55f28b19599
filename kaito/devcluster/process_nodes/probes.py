"""Probes: asks containers whether they have started, live and are ready, by HTTP, TCP or a command."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiohttp

from kaito.devcluster.process_nodes import addresses
from kaito.devcluster.process_nodes.container_commands import CommandResult
from kaito.kube.pod_v1 import Container, HTTPGetAction, Probe

DEFAULT_PERIOD_S: Final = 10.0
DEFAULT_TIMEOUT_S: Final = 1.0
DEFAULT_FAILURES: Final = 3
_HEADERS: Final = {"User-Agent": "kube-probe/1.36", "Accept": "*/*"}

RunCommand = Callable[[Sequence[str], float], Awaitable[CommandResult]]
"""Runs a command in the container's place within some seconds."""


class ProbeKind(StrEnum):
    """What a probe asks."""

    STARTUP = "Startup"
    LIVENESS = "Liveness"
    READINESS = "Readiness"


def probes_of(container: Container) -> dict[ProbeKind, Probe]:
    """The probes that a container has."""
    found = {
        ProbeKind.STARTUP: container.startup_probe,
        ProbeKind.LIVENESS: container.liveness_probe,
        ProbeKind.READINESS: container.readiness_probe,
    }
    return {kind: probe for kind, probe in found.items() if probe is not None}


@dataclass(frozen=True, slots=True)
class Prober:
    """Asks one container.

    Attributes:
        container: whose ports and probes.
        address: the pod's, as the cluster knows it.
        run_command: for probes that are commands.
    """

    container: Container
    address: str
    run_command: RunCommand

    async def check(self, probe: Probe) -> str | None:
        """Asks once; returns what is wrong, None for success."""
        timeout_s = float(probe.timeout_seconds or DEFAULT_TIMEOUT_S)
        if probe.http_get is not None:
            answer = await self.fetch(probe.http_get, timeout_s)
            if isinstance(answer, str):
                return answer
            return None if 200 <= answer < 400 else f"HTTP probe failed with statuscode: {answer}"
        if probe.tcp_socket is not None:
            return await self._connect(probe.tcp_socket, timeout_s)
        if probe.exec is not None:
            return (await self.run_command(probe.exec.command, timeout_s)).fault
        return "nodes of this kind know httpGet, tcpSocket and exec probes only; use one of these"

    async def fetch(self, action: HTTPGetAction, timeout_s: float | None) -> int | str:
        """Sends a request; returns the status of the answer, or why there was none."""
        scheme = (action.scheme or "HTTP").lower()
        port = self._port(action.port)
        path = "/" + (action.path or "/").removeprefix("/")
        shown = f"{scheme}://{action.host or self.address}:{port}{path}"
        url = f"{scheme}://{action.host or addresses.local(self.address)}:{port}{path}"
        headers = {**_HEADERS, **{each.name: each.value for each in action.http_headers}}
        limit = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit, headers=headers) as session,
                session.get(url, allow_redirects=False, ssl=_no_verification(scheme)) as answer,
            ):
                return answer.status
        except TimeoutError:
            return f'Get "{shown}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f'Get "{shown}": {_words(error, f"{action.host or self.address}:{port}")}'

    async def _connect(self, action: Mapping[str, object], timeout_s: float) -> str | None:
        port = self._port(str(action["port"]))
        host = str(action.get("host") or addresses.local(self.address))
        where = f"{action.get('host') or self.address}:{port}"
        try:
            async with asyncio.timeout(timeout_s):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return f"dial tcp {where}: i/o timeout"
        except (OSError, ValueError) as error:
            return _words(error, where)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return None

    def _port(self, port: int | str) -> int:
        named = {each.name: each.container_port for each in self.container.ports}
        if isinstance(port, str) and port in named:
            return named[port]
        return int(port) if str(port).isdigit() else 0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what a probe found.

    Attributes:
        started: set once the container has started; the other probes wait for it.
        passed: the probe holds from now on.
        failed: the probe holds no more, after as many failures as its threshold.
        unhealthy: each failure.
    """

    started: asyncio.Event
    passed: Callable[[ProbeKind], None]
    failed: Callable[[ProbeKind], None]
    unhealthy: Callable[[ProbeKind, str], None]


async def watch(kind: ProbeKind, probe: Probe, prober: Prober, tell: Listener) -> None:
    """Asks again and again, until cancelled; a startup probe until it holds."""
    if kind is not ProbeKind.STARTUP:
        await tell.started.wait()
    await asyncio.sleep(float(probe.initial_delay_seconds or 0))
    holds: bool | None = None
    successes = failures = 0
    while True:
        fault = await prober.check(probe)
        if fault is None:
            successes, failures = successes + 1, 0
            if successes >= (probe.success_threshold or 1) and not holds:
                holds = True
                tell.passed(kind)
                if kind is ProbeKind.STARTUP:
                    return
        else:
            successes, failures = 0, failures + 1
            tell.unhealthy(kind, fault)
            if failures >= (probe.failure_threshold or DEFAULT_FAILURES) and holds is not False:
                holds = False
                tell.failed(kind)
        await asyncio.sleep(float(probe.period_seconds or DEFAULT_PERIOD_S))


def _no_verification(scheme: str) -> ssl.SSLContext | bool:
    if scheme != "https":
        return True
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _words(error: Exception, where: str) -> str:
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ConnectionRefusedError):
        return f"dial tcp {where}: connect: connection refused"
    # Errors of the local loopback name its address, which means nothing in the cluster.
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
