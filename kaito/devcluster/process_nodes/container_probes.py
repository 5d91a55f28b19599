"""ContainerProbes: the probes of one run of a container, each a task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kaito.devcluster.process_nodes.probes import Listener, ProbeKind, Prober, probes_of, watch
from kaito.kube.pod_v1 import Container


class ContainerProbes:
    """Asks a container, from `begin` until cancelled.

    Args:
        container: which.
        prober: asks.
        found: is told what a probe found: it holds from now on, or no more.
        unhealthy: is told each failure.
    """

    def __init__(
        self,
        container: Container,
        prober: Prober,
        found: Callable[[ProbeKind, bool], None],
        unhealthy: Callable[[ProbeKind, str], None],
    ) -> None:
        self._container = container
        self._prober = prober
        self._found = found
        self._unhealthy = unhealthy
        self._started = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Asks from now on: the container runs, and is set up."""
        probes = probes_of(self._container)
        if ProbeKind.STARTUP not in probes:
            self._started.set()
        listener = Listener(self._started, self._passed, lambda kind: self._found(kind, False), self._unhealthy)
        self._tasks = [
            asyncio.create_task(
                watch(kind, probe, self._prober, listener), name=f"{kind} probe of {self._container.name}"
            )
            for kind, probe in probes.items()
        ]

    def cancel(self) -> None:
        """Asks no more."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Asks no more, and waits for what is being asked."""
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _passed(self, kind: ProbeKind) -> None:
        self._found(kind, True)
        if kind is ProbeKind.STARTUP:
            self._started.set()
