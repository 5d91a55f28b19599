"""Running: the life of a controller in one manager, from its first handler to the end of its last worker."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

from kaito.informers.informer import Informer
from kaito.informers.reflector import hint
from kaito.kube.object_key import ObjectKey
from kaito.kube.resource import Resource
from kaito.runtime.async_queue import AsyncQueue
from kaito.runtime.cancellation import CancelReason
from kaito.runtime.elections import BeforeWork
from kaito.runtime.metrics import ControllerMetrics
from kaito.runtime.sources import Sources
from kaito.runtime.standby import stand_by
from kaito.runtime.worker import Workers

if TYPE_CHECKING:
    from kaito.runtime.controller import Controller
    from kaito.runtime.manager import Manager

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)

# Nothing tells that a kind is missing; only at the start is it looked for.
MISSING_POLL_S = 0.1


class Phase(StrEnum):
    """Where a controller is."""

    STOPPED = "stopped"
    SYNCING = "syncing"
    """Its queue fills; one of its kinds has not been listed yet."""
    STANDBY = "standby"
    """Its queue fills; it waits for leave to work."""
    WORKING = "working"
    STOPPING = "stopping"
    """Takes and hands out nothing any more; what is being worked on may end."""


class Running(Generic[R]):
    """One run of a controller; another run makes another.

    Args:
        controller: what it was declared to be.
        manager: whose cache, client and metrics it uses.
    """

    def __init__(self, controller: Controller[R], manager: Manager) -> None:
        self._controller = controller
        self._manager = manager
        self._metrics = ControllerMetrics(manager.metrics, controller.name, controller.concurrency)
        self._report: asyncio.TimerHandle | None = None
        self.phase = Phase.SYNCING
        self.queue: AsyncQueue[ObjectKey] = AsyncQueue(self._metrics.queue)
        self._dirty = dirty = dict[ObjectKey, float]()
        self.sources = Sources(controller, manager.cache, self.queue, dirty, self._metrics, manager.rng)
        self.workers = Workers(controller, manager, self.queue, dirty, self._metrics)

    async def run(self, before_work: BeforeWork | None) -> None:
        """See `Controller.run`."""
        try:
            self.sources.subscribe()
            await self._wait_synced()
            if self._advance(Phase.STANDBY) and before_work is not None:
                store = self._manager.cache.informer(self._controller.kind).store
                await stand_by(before_work, self.queue, self._dirty, store)
            if self._advance(Phase.WORKING):
                await self._work()
        finally:
            self.stop_intake(None)
            self.workers.close()
            self._metrics.stopped()
            await self.sources.aclose()

    def stop_intake(self, reason: CancelReason | None) -> None:
        """See `Controller.stop_intake`."""
        self.phase = Phase.STOPPING
        self.queue.close()
        self.workers.reason = reason or self.workers.reason

    def _advance(self, phase: Phase) -> bool:
        if self.phase is not Phase.STOPPING:
            self.phase = phase
        return self.phase is phase

    async def _work(self) -> None:
        controller = self._controller
        log.info("controller started", extra={"controller": controller.name, "workers": controller.concurrency})
        await self.workers.run()
        log.info("controller stopped", extra={"controller": controller.name})

    async def _wait_synced(self) -> None:
        """Waits until all kinds are synced, or found missing where they may be; says now and then what it waits for."""
        self._report_in(self._controller.sync_timeout.total_seconds(), 0.0)
        try:
            for kind in self._controller.kinds:
                await self._wait_for(kind)
        finally:
            if self._report is not None:
                self._report.cancel()

    def _report_in(self, wait_s: float, waited_s: float) -> None:
        def report() -> None:
            self._report_unsynced(waited_s + wait_s)
            self._report_in(wait_s, waited_s + wait_s)

        self._report = asyncio.get_running_loop().call_later(wait_s, report)

    async def _wait_for(self, kind: type[Resource]) -> None:
        controller, informer = self._controller, self._manager.cache.informer(kind)
        if kind in controller.needed_kinds or kind is controller.kind:
            await informer.wait_synced()
        while not (informer.synced or informer.state.dormant):
            with suppress(TimeoutError):
                async with asyncio.timeout(MISSING_POLL_S):
                    await informer.wait_synced()

    def _report_unsynced(self, waited_s: float) -> None:
        controller, cache = self._controller, self._manager.cache
        for kind in dict.fromkeys(controller.kinds):
            informer = cache.informer(kind)
            if not informer.synced and not (informer.state.dormant and kind not in controller.needed_kinds):
                log.warning(
                    "controller waits for a kind that is not synced",
                    extra={
                        "controller": controller.name,
                        "kind": str(kind.resource_type.group_kind),
                        "waited_s": round(waited_s, 1),
                        "error": why_unsynced(informer, self._manager.crd_remedy),
                    },
                )


def why_unsynced(informer: Informer[Resource], crd_remedy: str) -> str:
    """Why an informer has not listed its kind, or cannot watch it, and what a person can do about it.

    Args:
        informer: which.
        crd_remedy: how the definition of a kind that is missing is brought there.
    """
    error = informer.state.error
    if error is None:
        return "its first list is not in yet"
    kind = informer.kind.resource_type
    if informer.state.dormant:
        what = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
        return f"waiting for its CRD: the API server serves no {what} {kind.version}; {crd_remedy}"
    return f"{error}{hint(error, kind)}"
